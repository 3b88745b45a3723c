//! How the kernel keeps its clock: `adjtimex(2)`, which only reads here.
//!
//! Truth: the manual page and the kernel's `Documentation/timers`; frequencies are in units of 2^-16 ppm.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use rtime_clock::adjtime::{Timex, adjtimex};
use std::io;

pub(super) const COLLECTOR: Collector =
    Collector { name: "timex", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

/// The clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// Times are in nanoseconds instead of microseconds.
const STATUS_NANO: i32 = 0x2000;
const NANOSECONDS: f64 = 1e9;
const MICROSECONDS: f64 = 1e6;
const PPM16: f64 = 65_536.0 * 1e6;

fn gather(_host: &Host, out: &mut Families) -> Result<(), Failure> {
    // All zero asks for the values and changes none.
    let mut timex = Timex::new();
    match adjtimex(&mut timex) {
        Ok(state) => show(state, &timex, out),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::NoData("the clock's state must not be read by this process".to_owned()));
        }
        Err(source) => return Err(Failure::Call { call: "adjtimex", source }),
    }
    Ok(())
}

fn show(state: i32, timex: &Timex, out: &mut Families) {
    let timex = &timex.0;
    let unit = if timex.status & STATUS_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    let gauges = [
        ("sync_status", "1 when the clock is synchronised.", f64::from(u8::from(state != TIME_ERROR))),
        ("offset_seconds", "How far the clock is off its reference.", timex.offset as f64 / unit),
        ("frequency_adjustment_ratio", "Speed the clock is set to.", 1.0 + timex.freq as f64 / PPM16),
        ("maxerror_seconds", "Largest error of the clock.", timex.maxerror as f64 / MICROSECONDS),
        ("estimated_error_seconds", "Estimated error of the clock.", timex.esterror as f64 / MICROSECONDS),
        ("status", "Status bits of the clock.", f64::from(timex.status)),
        ("loop_time_constant", "Time constant of the phase-locked loop.", timex.constant as f64),
        ("tick_seconds", "Time between two clock ticks.", timex.tick as f64 / MICROSECONDS),
        ("pps_frequency_hertz", "Frequency of the pulse per second.", timex.ppsfreq as f64 / PPM16),
        ("pps_jitter_seconds", "Jitter of the pulse per second.", timex.jitter as f64 / unit),
        ("pps_shift_seconds", "Interval of the pulse per second.", f64::from(timex.shift)),
        ("pps_stability_hertz", "Wander of the pulse per second.", timex.stabil as f64 / PPM16),
        ("tai_offset_seconds", "Offset to international atomic time.", f64::from(timex.tai)),
    ];
    for (name, help, value) in gauges {
        out.put(Kind::Gauge, format_args!("node_timex_{name}"), format_args!("{help}"), &[], value);
    }
    let counters = [
        ("pps_jitter_total", "Pulses with too much jitter.", timex.jitcnt),
        ("pps_calibration_total", "Calibration intervals.", timex.calcnt),
        ("pps_error_total", "Calibrations that failed.", timex.errcnt),
        ("pps_stability_exceeded_total", "Pulses that wandered too far.", timex.stbcnt),
    ];
    for (name, help, value) in counters {
        out.put(Kind::Counter, format_args!("node_timex_{name}"), format_args!("{help}"), &[], value as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_status() {
        let mut timex = Timex::new();
        (timex.0.offset, timex.0.freq, timex.0.jitter, timex.0.status) = (1500, 65_536, 3000, 0);
        let text = |state, timex: &Timex| {
            let mut out = Families::new();
            show(state, timex, &mut out);
            String::from_utf8(out.finish().0).expect("text")
        };
        let micro = text(0, &timex);
        assert!(micro.contains("node_timex_offset_seconds 0.0015\n"), "{micro}");
        assert!(micro.contains("node_timex_frequency_adjustment_ratio 1.000001\n"), "{micro}");
        assert!(micro.contains("node_timex_sync_status 1\n"), "{micro}");
        timex.0.status = STATUS_NANO;
        let nano = text(TIME_ERROR, &timex);
        assert!(nano.contains("node_timex_pps_jitter_seconds 3e-06\n"), "{nano}");
        assert!(nano.contains("node_timex_sync_status 0\n"), "{nano}");
    }
}

//! Parts of a date in UTC, of seconds since the Unix epoch or of the time of evaluation.

use super::{CallSite, Function, Kernel};
use crate::{
    eval::Run,
    expr::Type::Vector,
    table::{Done, Row, Table, merged},
};
use model::{Labels, date_of_day, day_of_date, month_days};

pub(super) const FUNCTIONS: &[Function] = &[
    part("minute", "The minute of the hour, 0 to 59.", |run, site| each(run, site, |date| date.minute)),
    part("hour", "The hour of the day, 0 to 23.", |run, site| each(run, site, |date| date.hour)),
    part("day_of_week", "The day of the week, 0 for Sunday to 6.", |run, site| each(run, site, Date::weekday)),
    part("day_of_month", "The day of the month, 1 to 31.", |run, site| each(run, site, |date| date.day)),
    part("day_of_year", "The day of the year, 1 to 366.", |run, site| each(run, site, Date::year_day)),
    part("days_in_month", "The days the month has, 28 to 31.", |run, site| each(run, site, Date::month_days)),
    part("month", "The month, 1 to 12.", |run, site| each(run, site, |date| date.month)),
    part("year", "The year.", |run, site| each(run, site, |date| date.year)),
];

const fn part(
    name: &'static str,
    doc: &'static str,
    kernel: fn(&mut Run<'_>, &CallSite<'_>) -> Done<Table>,
) -> Function {
    Function::new(name, &[Vector], Vector, doc, Kernel::Call(kernel)).between(0, 1)
}

/// Seconds since the epoch at which Go's calendar begins.
const BEGIN: i64 = -9_223_372_028_715_321_600;

/// A moment in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    days: i64,
}

impl Date {
    /// The date at seconds since the Unix epoch.
    pub(crate) fn at(seconds: i64) -> Self {
        // Times before the calendar begins are counted as wrapped around, as Go does.
        let wrapped = i128::from(seconds) + if seconds < BEGIN { 1 << 64 } else { 0 };
        let (days, rest) = (wrapped.div_euclid(86_400) as i64, wrapped.rem_euclid(86_400) as i64);
        Self::of(days, rest)
    }

    /// The date of a day since the epoch and a second of it.
    fn of(days: i64, rest: i64) -> Self {
        let (year, month, day) = date_of_day(days);
        Self { year, month, day, hour: rest / 3_600, minute: rest / 60 % 60, second: rest % 60, days }
    }

    fn weekday(&self) -> i64 {
        // The epoch was a Thursday.
        (self.days + 4).rem_euclid(7)
    }

    fn month_days(&self) -> i64 {
        month_days(self.year, self.month)
    }

    fn year_day(&self) -> i64 {
        self.days - day_of_date(self.year, 1, 1) + 1
    }
}

/// Applies to every float, or to the time of each step when there is no argument.
fn each(run: &mut Run<'_>, site: &CallSite<'_>, take: fn(&Date) -> i64) -> Done<Table> {
    let of = |seconds: i64| take(&Date::at(seconds)) as f64;
    let Some(arg) = site.args.first() else {
        let cells = (0..run.grid.steps).map(|step| of(run.grid.time(step) / 1000)).collect();
        let row = Row { cells, ..Row::constant(0.0, run.grid.steps) };
        return Ok(Table::Rows(vec![Row { labels: Labels::empty(), ..row }]));
    };
    let mut rows = run.rows(arg)?;
    for row in &mut rows {
        run.unname(row);
        row.histograms = None;
        row.cells.iter_mut().for_each(|cell| *cell = of(whole(*cell)));
    }
    merged(rows).map(Table::Rows)
}

/// The integer part; the least integer when there is none, as the hardware answers.
fn whole(value: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) { value as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_seconds() {
        let parts = |seconds| {
            let date = Date::at(seconds);
            (
                date.year,
                date.month,
                date.day,
                date.hour,
                date.minute,
                date.weekday(),
                date.year_day(),
                date.month_days(),
            )
        };
        assert_eq!(parts(0), (1970, 1, 1, 0, 0, 4, 1, 31));
        assert_eq!(parts(951_782_400), (2000, 2, 29, 0, 0, 2, 60, 29));
        assert_eq!(parts(1_136_239_445), (2006, 1, 2, 22, 4, 1, 2, 31));
        assert_eq!(parts(whole(f64::NAN)), (292_277_026_596, 12, 4, 15, 30, 0, 339, 31));
        assert_eq!(parts(-1), (1969, 12, 31, 23, 59, 3, 365, 31));
    }
}

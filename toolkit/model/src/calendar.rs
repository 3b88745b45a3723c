//! Days and dates of the proleptic Gregorian calendar, in UTC.
//!
//! Years are taken to begin in March, so that a leap day is the last day of one; 400 of them repeat.

/// Days from 1970-01-01 to the first of March of the year 0.
const ORIGIN: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

/// Days of a month, 1 to 12.
pub fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date.
pub fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - ORIGIN
}

/// Year, month and day of days since 1970-01-01: the inverse of [`day_of_date`].
pub fn date_of_day(days: i64) -> (i64, i64, i64) {
    let days = days + ORIGIN;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_and_back() {
        let (mut year, mut month, mut day) = (1899, 12, 31);
        for days in day_of_date(year, month, day)..day_of_date(2301, 1, 1) {
            assert_eq!((date_of_day(days), day_of_date(year, month, day)), ((year, month, day), days));
            day += 1;
            if day > month_days(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((day_of_date(1970, 1, 1), date_of_day(11_016)), (0, (2000, 2, 29)));
    }
}

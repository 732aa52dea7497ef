//! A date as templates ask for it.
//!
//! In: seconds since 1970 or a date as people write it. Out: text in the directives of `strftime`, in English. It reads no
//! clock: whoever renders says what time it is.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A moment, in UTC, to the second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Date {
    year: i64,
    /// From 1.
    month: u8,
    /// From 1.
    day: u8,
    /// Of the day.
    second: u32,
    /// Days since 1970-01-01.
    days: i64,
}

const SECONDS_OF_DAY: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Beyond the year 9999 there is no such date, and no overflow before.
const MAX_SECONDS: u64 = 253_402_300_799;

impl Date {
    /// 1970-01-01, midnight.
    pub const EPOCH: Self = Self { year: 1970, month: 1, day: 1, second: 0, days: 0 };

    /// So many seconds after 1970-01-01 began.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(MAX_SECONDS) as i64;
        let days = seconds.div_euclid(SECONDS_OF_DAY);
        let second = seconds.rem_euclid(SECONDS_OF_DAY) as u32;
        let mut date = Self { second, days, ..Self::EPOCH };
        // At most 8000 turns, and nothing to get wrong.
        let mut rest = days;
        while rest >= days_of_year(date.year) {
            rest = rest.saturating_sub(days_of_year(date.year));
            date.year = date.year.saturating_add(1);
        }
        while rest >= days_of_month(date.year, date.month) {
            rest = rest.saturating_sub(days_of_month(date.year, date.month));
            date.month = date.month.saturating_add(1);
        }
        date.day = rest.saturating_add(1) as u8;
        date
    }

    /// Reads `YYYY-MM-DD`, from 1970 on.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
            part.parse::<i64>().ok()
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) {
            return None;
        }
        let month = month as u8;
        if day < 1 || day > days_of_month(year, month) {
            return None;
        }
        let years: i64 = (1970..year).map(days_of_year).sum();
        let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
        let days = years.saturating_add(months).saturating_add(day).saturating_sub(1);
        Some(Self { year, month, day: day as u8, second: 0, days })
    }

    /// The date in the form that `format` describes by directives of `strftime`; `Err` with a directive that is not known.
    pub(crate) fn format(&self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            let bare = directive == Some('-');
            if bare {
                directive = chars.next();
            }
            let two = |n: i64| if bare { n.to_string() } else { format!("{n:02}") };
            let hour = i64::from(self.second.div_euclid(3600));
            let piece = match directive {
                Some('Y') => self.year.to_string(),
                Some('y') => two(self.year.rem_euclid(100)),
                Some('m') => two(i64::from(self.month)),
                Some('d') => two(i64::from(self.day)),
                Some('e') => format!("{:>2}", self.day),
                Some('B') => self.month_name().to_owned(),
                Some('b' | 'h') => self.month_name().chars().take(3).collect(),
                Some('A') => self.day_name().to_owned(),
                Some('a') => self.day_name().chars().take(3).collect(),
                Some('H') => two(hour),
                Some('I') => two(hour.saturating_add(11).rem_euclid(12).saturating_add(1)),
                Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
                Some('M') => two(i64::from(self.second.div_euclid(60).rem_euclid(60))),
                Some('S') => two(i64::from(self.second.rem_euclid(60))),
                Some('F') => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                Some('Z') => "UTC".to_owned(),
                Some('%') => "%".to_owned(),
                Some(other) => return Err(format!("%{other}")),
                None => return Err("% at the end".to_owned()),
            };
            out.push_str(&piece);
        }
        Ok(out)
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month).saturating_sub(1)).copied().unwrap_or_default()
    }

    fn day_name(&self) -> &'static str {
        // 1970-01-01 was a Thursday.
        DAYS.get(self.days.saturating_add(4).rem_euclid(7) as usize).copied().unwrap_or_default()
    }
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn days_of_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: i64, month: u8) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let form = "%a %A %d %b %B %Y %y-%m-%-d %H:%M:%S %I %p %%";
        let shown = |seconds| Date::from_unix(seconds).format(form).expect("known directives");
        assert_eq!(shown(0), "Thu Thursday 01 Jan January 1970 70-01-1 00:00:00 12 AM %");
        assert_eq!(shown(951_827_696), "Tue Tuesday 29 Feb February 2000 00-02-29 12:34:56 12 PM %");
        assert_eq!(shown(1_735_689_599), "Tue Tuesday 31 Dec December 2024 24-12-31 23:59:59 11 PM %");
        assert_eq!(Date::from_unix(u64::MAX).format("%F").as_deref(), Ok("9999-12-31"));
    }

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in ["1970-01-01", "2000-02-29", "2024-12-31", "2026-03-01", "9999-12-31"] {
            let date = Date::parse(text).expect("a date");
            assert_eq!(date.format("%F").as_deref(), Ok(text));
            assert_eq!(Date::from_unix(date.days as u64 * 86_400), date);
        }
        for text in [
            "",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-1-1",
            "1969-12-31",
            "2024-01-01-",
            "+024-01-01",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        assert_eq!(Date::EPOCH.format("%Q"), Err("%Q".to_owned()));
        assert!(Date::EPOCH.format("100%").is_err());
    }
}

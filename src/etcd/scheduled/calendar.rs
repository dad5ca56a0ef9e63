//! Calendar expressions of systemd's, as far as they can be checked without systemd: a wrong one is to show in the plan. What the server's
//! systemd says of it counts.

/// Names that stand for a whole expression (`calendar_spec_from_string` in systemd's `shared/calendarspec.c`).
const SHORTHANDS: [&str; 12] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "semi-annually",
    "biannually",
    "bi-annually",
    "yearly",
    "annually",
];
const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// What is wrong with an expression, in words.
///
/// # Errors
/// If systemd would not take it.
pub fn check(text: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || " *,-/.:~_+".contains(c);
    if let Some(other) = text.chars().find(|c| !known(*c)) {
        return Err(format!("{other:?} is in no calendar expression"));
    }
    if text.trim() != text {
        return Err("a space is before or behind it".to_owned());
    }
    let mut words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err("it is empty".to_owned());
    }
    // The time zone is the server's to know.
    if words.len() > 1 && words.last().is_some_and(|word| starts_with_letter(word)) {
        words.pop();
    }
    if let [word] = words[..]
        && SHORTHANDS.contains(&word.to_ascii_lowercase().as_str())
    {
        return Ok(());
    }
    let mut words = words.into_iter().peekable();
    if let Some(days) = words.next_if(|word| starts_with_letter(word)) {
        weekdays(days)?;
    }
    if let Some(date) = words.next_if(|word| !word.contains(':')) {
        self::date(date)?;
    }
    if let Some(time) = words.next() {
        self::time(time)?;
    }
    match words.next() {
        None => Ok(()),
        Some(word) => Err(format!(
            "{word:?} is one word too many: weekdays, date, time and time zone come in this order"
        )),
    }
}

fn starts_with_letter(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn weekdays(text: &str) -> Result<(), String> {
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        let found = WEEKDAYS.iter().position(|day| *day == name || day[..3] == name);
        found.ok_or_else(|| format!("{name:?} is neither a weekday nor one of {}", SHORTHANDS.join(", ")))
    };
    // A comma may be behind them.
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        match part.split_once("..").or_else(|| part.split_once('-')) {
            None => drop(day(part)?),
            Some((first, last)) if day(first)? > day(last)? => {
                return Err(format!("{part:?} goes back: a week begins with Monday"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn date(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(['-', '~']).collect();
    // A tilde counts days from the end of the month, so it can only be before the day.
    let marks: Vec<char> = text.chars().filter(|c| matches!(c, '-' | '~')).collect();
    let from_end = marks.last() == Some(&'~');
    let (year, month, day) = match parts[..] {
        [month, day] => (None, month, day),
        [year, month, day] if marks[0] == '-' => (Some(year), month, day),
        _ => {
            return Err(format!(
                "{text:?} is no date: that is year-month-day or month-day, such as *-*-01"
            ));
        }
    };
    if let Some(year) = year {
        YEAR.check(year)?;
    }
    MONTH.check(month)?;
    Component { from_end, ..DAY }.check(day)
}

fn time(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => {
            return Err(format!(
                "{text:?} is no time: that is hour:minute or hour:minute:second, such as *:0/15"
            ));
        }
    };
    HOUR.check(hour)?;
    MINUTE.check(minute)?;
    SECOND.check(second)
}

/// What may stand at one place of a date or a time, as systemd has it (`chain_valid` in `shared/calendarspec.c`).
#[derive(Clone, Copy)]
struct Component {
    name: &'static str,
    least: u64,
    most: u64,
    /// Into how many parts one is divided.
    parts: u64,
    /// Whether days are counted from the end of the month.
    from_end: bool,
}

const YEAR: Component = component("year", 1970, 2199);
const MONTH: Component = component("month", 1, 12);
const DAY: Component = component("day", 1, 31);
const HOUR: Component = component("hour", 0, 23);
const MINUTE: Component = component("minute", 0, 59);
const SECOND: Component = Component {
    parts: MICROSECONDS,
    most: 60 * MICROSECONDS - 1,
    ..component("second", 0, 59)
};
const MICROSECONDS: u64 = 1_000_000;

const fn component(name: &'static str, least: u64, most: u64) -> Component {
    Component {
        name,
        least,
        most,
        parts: 1,
        from_end: false,
    }
}

impl Component {
    /// `*`, or numbers and ranges with commas between them, each with `/` and how often again.
    fn check(&self, text: &str) -> Result<(), String> {
        if text == "*" || text.split(',').all(|part| self.takes(part) == Some(true)) {
            return Ok(());
        }
        let Self { name, least, most, .. } = self;
        let most = most / self.parts;
        Err(format!(
            "{text:?} is no {name}: it has to be *, or numbers from {least} to {most}, such as {least}, {least}..{most} or {least}/5, where \
             the first repetition comes before the end"
        ))
    }

    fn takes(&self, part: &str) -> Option<bool> {
        let (range, again) = match part.split_once('/') {
            Some((range, again)) => (range, Some(self.number(again)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (first, Some(self.year(self.number(last)?))),
            None => (range, None),
        };
        let first = self.year(self.number(first)?);
        let again = match (again, last) {
            (Some(0), _) => return None,
            (Some(again), _) => again,
            // Every second of it.
            (None, Some(_)) if self.parts > 1 => self.parts,
            (None, _) => 0,
        };
        let within = self.least..=self.most;
        let repeats = match last {
            Some(last) => within.contains(&last) && first + again <= last,
            None if self.from_end => first >= self.least + again,
            None => first + again <= self.most,
        };
        Some(within.contains(&first) && again <= self.most - self.least && repeats)
    }

    /// Two digits are of this century or the last one.
    fn year(&self, number: u64) -> u64 {
        match number {
            0..70 if self.name == YEAR.name => number + 2000,
            70..100 if self.name == YEAR.name => number + 1900,
            _ => number,
        }
    }

    fn number(&self, text: &str) -> Option<u64> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if self.parts > 1 => (whole, fraction),
            Some(_) => return None,
            None => (text, "0"),
        };
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        // What is too long for a u32 is too much for any of them.
        let whole = u64::from(whole.parse::<u32>().ok()?);
        // The seventh digit rounds.
        let tenths = format!("{fraction:0<7}").get(..7)?.parse::<u64>().ok()?;
        Some(whole * self.parts + if self.parts > 1 { (tenths + 5) / 10 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const GOOD: [&str; 28] = [
        "hourly",
        "Weekly",
        "semi-annually",
        "hourly UTC",
        "daily Europe/Berlin",
        "Mon",
        "Mon..Fri",
        "Mon-Fri",
        "monday,Tue 10:00",
        "*:0/15",
        "*:*:0/10",
        "*-*~1",
        "2026-1-1",
        "26-1-1",
        "0/2:00",
        "*-*-*",
        "1..5:00",
        "*:*:*",
        "*-*-01/3",
        "*-1,2-1 01:01:01.5",
        "Mon 10:00 CET",
        "*-1..3/2-1",
        "Mon *-*-* 00:00 UTC",
        "*:*:0.5/1.5",
        "*-05~07/1",
        "4:5",
        "*-*~*",
        "*-*-*   03:30",
    ];
    const BAD: [&str; 28] = [
        " hourly",
        "*-*-* 03:30 UTC ",
        "",
        " ",
        "*",
        "12",
        "often",
        "every hour",
        "0 * * * *",
        "@daily",
        "Fri..Mon",
        "Mon..",
        "Mon Tue 10:00",
        "*-*-* 25:00",
        "*:60",
        "*-*-* 4",
        "5..1:00",
        "*:0/0",
        "12:",
        "*-13-01",
        "*-*-0",
        "*-*-32",
        "1969-*-*",
        "*-*-* *:00:60",
        "10:00 *-*-*",
        "*:0.5",
        "hourly\nUser=root",
        "%H:00",
    ];

    /// What systemd says of them, where it is installed.
    fn systemd(text: &str) -> Option<bool> {
        let output = Command::new("systemd-analyze")
            .arg("calendar")
            .arg("--")
            .arg(text)
            .output();
        output.ok().map(|output| output.status.success())
    }

    #[test]
    fn what_systemd_takes_is_taken_and_what_it_refuses_is_refused() {
        for text in GOOD {
            assert_eq!(check(text), Ok(()), "{text:?}");
            assert_ne!(systemd(text), Some(false), "{text:?}");
        }
        for text in BAD {
            assert!(check(text).is_err(), "{text:?}");
            // That one would be once, and a line break is cut off by whoever writes it down.
            if !["@daily", "hourly\nUser=root"].contains(&text) {
                assert_ne!(systemd(text), Some(true), "{text:?}");
            }
        }
        assert!(check("0 * * * *").unwrap_err().contains("is no date"));
        assert!(check("often").unwrap_err().contains("hourly, daily"));
    }

    /// Components that are right, or nearly so.
    fn near() -> impl Strategy<Value = String> {
        let number = prop_oneof![0u32..64, 1965u32..2205].prop_map(|number| number.to_string());
        let decimal = (0u32..61, 0u32..2_000_000).prop_map(|(whole, part)| format!("{whole}.{part}"));
        let number = prop_oneof![6 => number, 1 => decimal];
        let item = (
            number.clone(),
            proptest::option::of(number.clone()),
            proptest::option::weighted(0.3, number),
        );
        let item = item.prop_map(|(first, last, again)| {
            let last = last.filter(|last| last.len() % 3 == 1).map(|last| format!("..{last}"));
            let again = again.map(|again| format!("/{again}"));
            first + &last.unwrap_or_default() + &again.unwrap_or_default()
        });
        let list = proptest::collection::vec(item, 1..3).prop_map(|items| items.join(","));
        let component = prop_oneof![2 => Just("*".to_owned()), 3 => list];
        let days = proptest::sample::select(vec![
            "",
            "",
            "",
            "Mon ",
            "Mon..Fri ",
            "Mon,,Tue ",
            "Sat,Sun, ",
            "tue-Thu,Sun ",
            "Fri..Mon ",
        ]);
        let marks = proptest::sample::select(vec!["-", "-", "-", "~"]);
        let date = proptest::option::of((
            component.clone(),
            marks.clone(),
            component.clone(),
            marks,
            component.clone(),
        ));
        let date =
            date.prop_map(|date| date.map(|(year, one, month, other, day)| format!("{year}{one}{month}{other}{day} ")));
        let zone = proptest::sample::select(vec!["", "", " UTC"]);
        (days, date, component.clone(), component.clone(), component, zone).prop_map(
            |(days, date, hour, minute, second, zone)| {
                format!("{days}{}{hour}:{minute}:{second}{zone}", date.unwrap_or_default())
            },
        )
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,24}") {
            if check(&text).is_ok() {
                prop_assert!(text.is_ascii() && !text.contains(['%', '\n', '"', '\'', '\\', '$', ';', '#', '=']));
            }
        }

        /// Of what is near to an expression nothing is taken that systemd refuses.
        #[test]
        fn what_is_taken_is_taken_by_systemd(text in near()) {
            if check(&text).is_ok() {
                prop_assert_ne!(systemd(&text), Some(false), "{}", text);
            }
        }

        #[test]
        fn times_of_the_day_are_taken(hour in 0u32..24, minute in 0u32..60, second in 0u32..60) {
            let text = format!("*-*-* {hour:02}:{minute:02}:{second:02}");
            prop_assert_eq!(check(&text), Ok(()));
        }
    }
}

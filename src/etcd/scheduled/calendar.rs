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
    for part in text.split(',').filter(|part| !part.is_empty()) {
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
    let (year, month, day) = match parts[..] {
        [month, day] => (None, month, day),
        [year, month, day] => (Some(year), month, day),
        _ => {
            return Err(format!(
                "{text:?} is no date: that is year-month-day or month-day, such as *-*-01"
            ));
        }
    };
    if let Some(year) = year {
        // Two digits are of this century or the last one.
        component("year", year, 0, 99, false).or_else(|_| component("year", year, 1970, 2199, false))?;
    }
    component("month", month, 1, 12, false)?;
    component("day", day, 1, 31, false)
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
    component("hour", hour, 0, 23, false)?;
    component("minute", minute, 0, 59, false)?;
    component("second", second, 0, 59, true)
}

/// `*`, or numbers and ranges with commas between them, each with `/` and how often again.
fn component(what: &str, text: &str, least: u32, most: u32, fractions: bool) -> Result<(), String> {
    let wrong = || {
        format!(
            "{text:?} is no {what}: it has to be *, or numbers from {least} to {most}, such as {least}, {least}..{most} or {least}/5"
        )
    };
    if text == "*" {
        return Ok(());
    }
    let number = |text: &str| {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if fractions => (whole, fraction),
            Some(_) => return Err(wrong()),
            None => (text, "0"),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        whole
            .parse::<u32>()
            .map(|whole| (whole, fraction.trim_end_matches('0').to_owned()))
            .map_err(|_| wrong())
    };
    for part in text.split(',') {
        let (range, again) = match part.split_once('/') {
            Some((range, again)) => (range, Some(number(again)?)),
            None => (part, None),
        };
        if again.is_some_and(|(whole, fraction)| whole == 0 && fraction.is_empty()) {
            return Err(wrong());
        }
        let (first, last) = range.split_once("..").unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first.0 < least || last.0 > most || first.0 > last.0 {
            return Err(wrong());
        }
    }
    Ok(())
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

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,24}") {
            if check(&text).is_ok() {
                prop_assert!(text.is_ascii() && !text.contains(['%', '\n', '"', '\'', '\\', '$', ';', '#', '=']));
            }
        }

        #[test]
        fn times_of_the_day_are_taken(hour in 0u32..24, minute in 0u32..60, second in 0u32..60) {
            let text = format!("*-*-* {hour:02}:{minute:02}:{second:02}");
            prop_assert_eq!(check(&text), Ok(()));
        }
    }
}

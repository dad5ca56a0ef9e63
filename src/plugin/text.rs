//! Text on its way to Terraform, which writes it to the user's terminal as it is. Much of it was said by servers and by programs on them.
//!
//! Everything leaves through here: diagnostics, the errors of functions, what actions say, the names of what was found, log lines, and computed
//! attributes. A terminal that gets it shows text and does nothing else, and no line of it is taken for one of Terraform's own.

use super::schema::{Attribute, Kind, Presence};
use super::value::Value;

/// The most characters of a line that stands for itself: a summary, or what an action says.
const LONGEST_LINE: usize = 1000;
/// The most bytes of a detail. A table of all pairs of seven servers has 6 kB.
const LONGEST_DETAIL: usize = 32 * 1024;
/// What stands in the place of what is no text.
const NO_TEXT: char = '\u{fffd}';
/// How lines of Terraform's begin that stand at the begin of a line.
const TERRAFORMS_OWN: [&str; 14] = [
    "Error:",
    "Warning:",
    "Success!",
    "Apply complete!",
    "Apply cancelled",
    "Destroy complete!",
    "Plan:",
    "No changes.",
    "Changes to Outputs:",
    "Outputs:",
    "Note:",
    "╷",
    "│",
    "╵",
];

/// One line: line breaks and tabs are spaces, and what is too long is cut, and says so.
#[must_use]
pub fn line(text: &str) -> String {
    let mut characters = text.chars();
    let mut line: String = { characters.by_ref() }
        .take(LONGEST_LINE)
        .map(|character| match character {
            '\n' | '\t' => ' ',
            other => printable(other),
        })
        .collect();
    let left = characters.count();
    if left > 0 {
        line.push_str(&format!("… ({left} more characters)"));
    }
    line
}

/// Lines: what looks like a line of Terraform's own is indented, and what is too long is cut, and says so.
#[must_use]
pub fn lines(text: &str) -> String {
    let end = (0..=LONGEST_DETAIL.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    let (kept, left) = text.split_at(end.unwrap_or(0));
    let mut lines = String::with_capacity(kept.len());
    for (at, line) in kept.split('\n').enumerate() {
        if at > 0 {
            lines.push('\n');
        }
        let line = clean(line.strip_suffix('\r').unwrap_or(line));
        if TERRAFORMS_OWN.iter().any(|own| line.starts_with(own)) {
            lines.push_str("  ");
        }
        lines.push_str(&line);
    }
    if !left.is_empty() {
        lines.push_str(&format!("…\n\n({} more bytes are left out.)", left.len()));
    }
    lines
}

/// The same text, of characters that are shown alone. Line breaks and tabs stay.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// The character, if a terminal shows it and nothing else. Controls, escapes, what turns the direction of writing, and what has no width
/// or no shape are not.
fn printable(character: char) -> char {
    match character {
        ' '..='~' | '\n' | '\t' => character,
        other if other.is_whitespace() && !other.is_control() => ' ',
        other if has_a_shape(other) => other,
        _ => NO_TEXT,
    }
}

/// As the standard library knows it for `Debug`: no control, format, surrogate, private or unassigned character, and no separator.
fn has_a_shape(character: char) -> bool {
    // It is asked about behind a letter, where a combining mark has its place.
    let mut pair = [b'a', 0, 0, 0, 0];
    let length = 1 + character.encode_utf8(&mut pair[1..]).len();
    let pair = std::str::from_utf8(&pair[..length]).unwrap_or_default();
    pair.escape_debug().nth(1) == Some(character)
}

/// Cleans what the provider computed of a state, and leaves what the user wrote as it is: Terraform compares that. What Terraform shows of a state it
/// escapes, but for texts of several lines.
pub fn clean_computed(attributes: &[Attribute], state: &mut Value) {
    let Value::Map(object) = state else { return };
    for one in attributes {
        let Some(value) = object.get_mut(one.name) else {
            continue;
        };
        match (&one.kind, one.presence) {
            // Terraform writes it behind what it does, as it is.
            (_, Presence::Computed) if one.name == "id" => {
                if let Value::String(text) = value {
                    *text = line(text);
                }
            }
            (_, Presence::Computed) => clean_all(value),
            (Kind::Plain(_), _) => {}
            (Kind::Single(nested), _) => clean_computed(nested, value),
            (Kind::List(nested) | Kind::Set(nested) | Kind::Map(nested), _) => match value {
                Value::List(items) => items.iter_mut().for_each(|item| clean_computed(nested, item)),
                Value::Map(entries) => entries.values_mut().for_each(|entry| clean_computed(nested, entry)),
                _ => {}
            },
        }
    }
}

fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) if *text != clean(text) => *text = clean(text),
        Value::List(items) => items.iter_mut().for_each(clean_all),
        Value::Map(entries) => entries.values_mut().for_each(clean_all),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::schema::Type;
    use proptest::prelude::*;

    /// What no terminal is to get: by Unicode's categories and ranges, apart from how it is found above.
    fn acts(character: char) -> bool {
        let ranges = [
            '\u{0}'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{ad}'..='\u{ad}',
            '\u{61c}'..='\u{61c}',
            '\u{180e}'..='\u{180e}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{e000}'..='\u{f8ff}',
            '\u{feff}'..='\u{feff}',
            '\u{fff9}'..='\u{fffb}',
            '\u{e0000}'..='\u{e007f}',
        ];
        ranges.iter().any(|range| range.contains(&character))
    }

    #[test]
    fn what_a_terminal_obeys_is_taken_out() {
        assert_eq!(
            line("\u{1b}[2K\rApply complete!\u{9b}1m\u{8}\u{7f}\n"),
            "�[2K�Apply complete!�1m�� "
        );
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{ad}f"), "a�b�c�d�e�f");
        assert_eq!(clean("a\u{a0}b\u{3000}c\u{2028}d\u{85}e"), "a b c d�e");
        let kept = "Zürich, Łódź, Ἀθῆναι, Москва, العربية, עברית, 東京, हिन्दी, e\u{301}, ±5 µs … “x” → ✓ 🙂";
        assert_eq!(clean(kept), kept);
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let printed = printable(character);
            assert!(
                !acts(printed) || matches!(printed, '\n' | '\t'),
                "{:x}",
                u32::from(character)
            );
            assert_eq!(printable(printed), printed, "{:x}: cleaned twice", u32::from(character));
        }
    }

    #[test]
    fn no_line_is_taken_for_terraforms_own() {
        assert_eq!(
            lines("it said:\r\nApply complete! Resources: 1 added\n╵\nError: none"),
            "it said:\n  Apply complete! Resources: 1 added\n  ╵\n  Error: none"
        );
        assert_eq!(
            lines("\u{1b}\nThis is fine.\n\n  as it is"),
            "�\nThis is fine.\n\n  as it is"
        );
    }

    #[test]
    fn what_is_cut_says_so() {
        assert!(line(&"ä".repeat(1001)).ends_with("ä… (1 more characters)"));
        assert!(lines(&"ä".repeat(20_000)).ends_with("ä…\n\n(7232 more bytes are left out.)"));
    }

    #[test]
    fn only_what_is_computed_is_cleaned() {
        let attributes = [
            Attribute::string("given"),
            Attribute::string("default").default("x"),
            Attribute::string("id").computed(),
            Attribute::list("computed", Type::String).computed(),
            Attribute::map_of(
                "nested",
                vec![Attribute::string("given"), Attribute::string("seen").computed()],
            ),
        ];
        let hostile = || Value::from("a\u{1b}b");
        let nested = |seen: Value| Value::object([("given", hostile()), ("seen", seen)]);
        let state = |id: &str, computed: Value, nested: Value| {
            Value::object([
                ("given", hostile()),
                ("default", hostile()),
                ("id", id.into()),
                ("computed", Value::List(vec![computed])),
                ("nested", Value::object([("a1", nested)])),
            ])
        };
        let mut cleaned = state("a\nb", hostile(), nested(hostile()));
        clean_computed(&attributes, &mut cleaned);
        assert!(cleaned == state("a b", "a�b".into(), nested("a�b".into())));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_text_of_bounded_length(text in prop::collection::vec(any::<char>(), 0..2000)) {
            let text: String = text.into_iter().collect();
            let (one, many) = (line(&text), lines(&text));
            prop_assert!(!one.chars().any(acts) && !one.contains('\n'));
            prop_assert!(!many.chars().any(|character| acts(character) && !matches!(character, '\n' | '\t')));
            prop_assert!(one.chars().count() <= LONGEST_LINE + 40 && many.len() <= 3 * LONGEST_DETAIL);
            prop_assert!(many.split('\n').all(|line| TERRAFORMS_OWN.iter().all(|own| !line.starts_with(own))));
            prop_assert_eq!(clean(&clean(&text)), clean(&text));
        }
    }
}

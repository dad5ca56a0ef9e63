//! What a server or a program on it said, as it stands in our messages: of bounded length, and never on a line of its own making. PURE.
//!
//! What a terminal could take for more than text is not taken out here but where messages leave for Terraform, for all of them.

/// The most of one line that is shown.
const LONGEST: usize = 400;
/// What begins every further line, so that none of them looks like one of Terraform's own. Terraform leaves such lines as they are.
const INDENT: &str = "\n  ";

/// The text of bytes, of no more bytes than they are: where they are no UTF-8 there are question marks.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend((!chunk.invalid().is_empty()).then_some('?'));
    }
    text
}

/// All of it on one line, in single spaces.
pub fn one_line(text: &str) -> String {
    let breaks = |character: char| character.is_whitespace() || character.is_control();
    // A word is at least a byte and the space behind it, so this much is enough for the longest line.
    let words: Vec<&str> = text
        .split(breaks)
        .filter(|word| !word.is_empty())
        .take(LONGEST)
        .collect();
    cut(&words.join(" "))
}

/// A name or an address as it is, with `\u{fffd}` in the place of what breaks lines: it stays another one than any that is valid.
pub fn name(text: &str) -> String {
    let breaks = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    cut(&text.replace(breaks, "\u{fffd}"))
}

/// As [`name`], each of them.
pub fn names(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| name(text)).collect()
}

/// The last `count` lines that hold anything, the first of them where it stands, the others indented.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let filled = |line: &&str| !line.trim().is_empty();
    let mut lines: Vec<String> = text.lines().rev().filter(filled).take(count).map(one_line).collect();
    lines.reverse();
    lines.join(INDENT)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_joined_or_indented() {
        assert_eq!(one_line(" no\r\n\n such\tthing\u{2028}here "), "no such thing here");
        assert_eq!(last_lines("one\n\ntwo  \nthree\n \n", 2), "two\n  three");
        assert_eq!(name("a1\nApply complete!"), "a1\u{fffd}Apply complete!");
        assert_eq!(name("a1\n"), "a1\u{fffd}", "another name than a1");
        assert_eq!(one_line(&"ä".repeat(500)).chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn no_text_begins_a_line(text in "(\\PC|[\n\r\u{b}\u{c}\u{85}\u{2028}\u{2029}]){0,300}", count in 1usize..20) {
            let breaks = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
            prop_assert!(!one_line(&text).contains(breaks) && !name(&text).contains(breaks));
            let lines = last_lines(&text, count);
            prop_assert!(lines.split(breaks).skip(1).all(|line| line.starts_with("  ")));
            prop_assert!(lines.split('\n').count() <= count);
            prop_assert!(lines.chars().count() <= count * (LONGEST + 4));
        }
    }
}

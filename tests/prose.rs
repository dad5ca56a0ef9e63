//! The words that users read: pages, the README, the newest changes, and the texts in the program. A sentence has 20 words at most, begins with no
//! "Who …" or "What …", and has no word of the list below. Old text breaks these rules in many places, so `tests/prose.txt` has a count for each
//! page, and for each room of the program. No count may grow.
//!
//! `PROSE_SHOW=README.md cargo test --test prose` prints the sentences of a place. `PROSE_UPDATE=1` writes the counts as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest sentence, in words.
const LONGEST: usize = 20;
/// Words that nobody searches for, or that hide the actor; as whole words.
const AVOIDED: &[&str] = &[
    "anew",
    "goes by",
    "go by",
    "in words",
    "is none of",
    "are none of",
    "let go",
    "nobody",
    "road",
    "somebody",
    "stands",
    "whoever",
    "word",
];
/// A sentence that begins so has a clause as its subject.
const BEGINNINGS: &[&str] = &["who", "whoever", "what", "whatever", "whom", "whose"];
/// The same after "That".
const AFTER_THAT: &[&str] = &[
    "a", "an", "each", "every", "it", "no", "one", "some", "the", "these", "they", "this",
];

/// How many sentences break each rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    long: usize,
    beginnings: usize,
    words: usize,
}

#[derive(Default)]
struct Found {
    counts: Counts,
    sentences: Vec<String>,
}

impl Found {
    fn take(&mut self, paragraph: &str) {
        for sentence in sentences(paragraph) {
            let words: Vec<String> = sentence
                .split_whitespace()
                .map(bare)
                .filter(|word| !word.is_empty())
                .collect();
            let mut say = |fault: &str| self.sentences.push(format!("{fault}: {sentence}"));
            if words.len() > LONGEST {
                self.counts.long += 1;
                say(&format!("{} words", words.len()));
            }
            let capital = sentence
                .chars()
                .find(|c| c.is_alphabetic())
                .is_some_and(char::is_uppercase);
            let first = words.first().map(String::as_str).unwrap_or_default();
            let clause = BEGINNINGS.contains(&first)
                || (first == "that" && words.get(1).is_some_and(|word| AFTER_THAT.contains(&word.as_str())));
            // A heading of a table has no full stop.
            if capital && clause && sentence.ends_with('.') {
                self.counts.beginnings += 1;
                say("begins with a clause");
            }
            let whole = format!(" {} ", words.join(" "));
            for avoided in AVOIDED {
                let times = whole.matches(&format!(" {avoided} ")).count();
                if times > 0 {
                    self.counts.words += times;
                    say(&format!("{avoided:?}"));
                }
            }
        }
    }
}

fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

/// Splits at a full stop, question or exclamation mark that a new beginning follows.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut words = paragraph.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let sentence = all.last_mut().expect("one");
        if !sentence.is_empty() {
            sentence.push(' ');
        }
        sentence.push_str(word);
        let ends = word
            .trim_end_matches(['"', ')', '*', '_', '`', '”'])
            .ends_with(['.', '?', '!']);
        let begins = words.peek().is_some_and(|next| !next.starts_with(char::is_lowercase));
        if ends && begins && !["e.g.", "i.e."].contains(&word) {
            all.push(String::new());
        }
    }
    all
}

/// The paragraphs, list items and cells of a page, without code, headings, addresses and pictures. Code in a sentence is one word.
fn paragraphs(page: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut code = false;
    let front = page.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    let body = front.map_or(page, |(front, body)| {
        all.push(
            front
                .split_once("description: |-\n")
                .map_or("", |(_, text)| text)
                .to_owned(),
        );
        all.push(String::new());
        body
    });
    for line in body.lines() {
        let text = line.trim();
        if text.starts_with("```") {
            code = !code;
            all.push(String::new());
        } else if code || text.starts_with("![") {
        } else if text.is_empty() || text.starts_with('#') || text.starts_with("<a ") {
            all.push(String::new());
        } else if let Some(row) = text.strip_prefix('|') {
            all.extend(row.split('|').map(str::to_owned));
            all.push(String::new());
        } else {
            let number = text
                .split_once(". ")
                .is_some_and(|(number, _)| number.chars().all(|c| c.is_ascii_digit()));
            if number || text.starts_with("- ") || text.starts_with("* ") {
                all.push(String::new());
            }
            let last = all.last_mut().expect("one");
            last.push_str(text.trim_start_matches(['-', '*', '>']));
            last.push('\n');
        }
    }
    let plain = all.iter().map(|text| without_links(&without_code(text)));
    plain.filter(|text| !text.trim().is_empty()).collect()
}

fn without_code(text: &str) -> String {
    let pieces = text.split('`').enumerate();
    pieces
        .map(|(at, piece)| if at % 2 == 1 { "X" } else { piece })
        .collect()
}

fn without_links(text: &str) -> String {
    let mut pieces = text.split("](");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once(')').map_or("", |(_, rest)| rest));
    }
    plain.replace(['[', ']'], "")
}

/// The texts in a Rust file that are for people: strings of several words, without shell. What is in braces is one word.
fn texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut all = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        if from.starts_with("//") {
            rest = from.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(hashes) = raw(before).filter(|_| from.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            rest = from[1..].split_once(&end).map_or("", |(_, rest)| rest);
        } else if let Some(text) = from.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let (text, after) = text.split_at(end.unwrap_or(text.len()));
            all.push(text.replace("\\\n", " ").replace("\\n", "\n\n").replace("\\\"", "\""));
            rest = after.get(1..).unwrap_or_default();
        } else if from.starts_with("'\"'") || from.starts_with("'\\") {
            rest = &from[3..];
        } else {
            rest = &from[1..];
        }
    }
    let shell = ["$(", "\"$", "&&", "; do", "; then", "set -", " | "];
    all.retain(|text| text.split_whitespace().count() > 3 && !shell.iter().any(|mark| text.contains(mark)));
    all.iter().map(|text| without_code(&without_braces(text))).collect()
}

/// How many hashes a raw string has whose quote comes next.
fn raw(before: &str) -> Option<usize> {
    let name = before.trim_end_matches('#');
    name.ends_with('r').then(|| before.len() - name.len()).filter(|_| {
        let letter = name.trim_end_matches('r').chars().next_back();
        letter.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

fn without_braces(text: &str) -> String {
    let mut depth = 0;
    let kept = text.chars().filter_map(|c| match c {
        '{' => {
            depth += 1;
            (depth == 1).then_some('X')
        }
        '}' => {
            depth = (depth - 1).max(0);
            None
        }
        c => (depth == 0).then_some(c),
    });
    kept.collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
}

fn everything() -> BTreeMap<String, Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    let mut pages = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|page| root().join(page))
        .to_vec();
    files(&root().join("docs"), ".md", &mut pages);
    for page in pages {
        let mut text = std::fs::read_to_string(&page).unwrap();
        if page.ends_with("CHANGELOG.md") {
            // The newest version alone.
            text = text.split("\n## ").nth(1).unwrap_or_default().to_owned();
        }
        let found = all.entry(name(&page)).or_default();
        paragraphs(&text).iter().for_each(|paragraph| found.take(paragraph));
    }
    let mut sources = Vec::new();
    files(&root().join("src"), ".rs", &mut sources);
    for source in sources {
        let path = name(&source);
        if path.contains("/tests") || path.ends_with("tests.rs") || path.contains("membership/world") {
            continue;
        }
        // A file may move within its room.
        let room: Vec<&str> = path.split('/').take(2).collect();
        let found = all.entry(room.join("/")).or_default();
        for text in texts(&std::fs::read_to_string(&source).unwrap()) {
            text.split("\n\n").for_each(|paragraph| found.take(paragraph));
        }
    }
    all
}

#[test]
fn no_place_breaks_more_rules_than_before() {
    let file = root().join("tests/prose.txt");
    let all = everything();
    if let Ok(place) = std::env::var("PROSE_SHOW") {
        eprintln!("{}", all[&place].sentences.join("\n"));
    }
    if std::env::var_os("PROSE_UPDATE").is_some() {
        let mut text = String::from(
            "# How many sentences of a place are too long, begin with a clause, and words that are avoided. See prose.rs.\n",
        );
        for (place, Found { counts, .. }) in all.iter().filter(|(_, found)| found.counts != Counts::default()) {
            let _ = writeln!(text, "{place} {} {} {}", counts.long, counts.beginnings, counts.words);
        }
        std::fs::write(&file, text).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let mut before: BTreeMap<&str, Counts> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (place, numbers) = line.split_once(' ').unwrap();
        let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let &[long, beginnings, words] = numbers.as_slice() else {
            panic!("tests/prose.txt: {line}");
        };
        before.insert(
            place,
            Counts {
                long,
                beginnings,
                words,
            },
        );
    }
    let mut worse = String::new();
    for (place, Found { counts, sentences }) in &all {
        let allowed = before.get(place.as_str()).copied().unwrap_or_default();
        if counts.long > allowed.long || counts.beginnings > allowed.beginnings || counts.words > allowed.words {
            let _ = writeln!(worse, "{place}: {counts:?}, where tests/prose.txt has {allowed:?}.");
            if sentences.len() <= 30 {
                let _ = writeln!(worse, "  {}", sentences.join("\n  "));
            }
        }
    }
    assert!(
        worse.is_empty(),
        "Make the sentences shorter, or name the actor first. To see all of a place: PROSE_SHOW={{place}} cargo test --test prose\n{worse}"
    );
}

#[test]
fn the_rules_find_what_they_are_for() {
    let counts = |text: &str| {
        let mut found = Found::default();
        paragraphs(text).iter().for_each(|paragraph| found.take(paragraph));
        found.counts
    };
    let of = |long, beginnings, words| Counts {
        long,
        beginnings,
        words,
    };
    assert_eq!(
        counts("Who waits for members closes connections. The provider waits."),
        of(0, 1, 0)
    );
    assert_eq!(
        counts("That the member is gone is said. What happens then? That is all."),
        of(0, 1, 0)
    );
    assert_eq!(
        counts("A member joins anew: nobody\nlet it in. Its password stands."),
        of(0, 0, 3)
    );
    let long = "one two three four five six seven eight nine ten ".repeat(2);
    assert_eq!(counts(&format!("{long}.")), of(0, 0, 0));
    assert_eq!(counts(&format!("{long} more.")), of(1, 0, 0));
    assert_eq!(
        counts(&format!("- {long}\n- {long}\n\n{long}\n\n| {long} | {long} |")),
        of(0, 0, 0)
    );
    assert_eq!(
        counts(&format!(
            "# anew\n\n```\nanew\n```\n{long} [more](anew.md) `anew {long}`."
        )),
        of(1, 0, 0)
    );
    assert_eq!(counts("---\ndescription: |-\n  All anew.\n---\nText."), of(0, 0, 1));
}

#[test]
fn texts_of_the_program_are_found() {
    let source = "let c = '\"'; // \"a comment of four words\"\nf(\"one two \\\n  {three:?} four\\n\", r#\"raw text of some words\"#);\n\
        s(\"set -eu and so on\");\n#[cfg(test)]\nmod tests { f(\"five six seven eight\") }";
    assert_eq!(texts(source), ["one two    X four\n\n"]);
}

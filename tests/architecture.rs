//! The arrows between the rooms of the crate: who may use whom. See the code map in `src/lib.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room, and the other rooms that it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("topology", &[]),
    ("membership", &[]),
    ("reconcile", &["membership"]),
    ("access", &[]),
    ("plugin", &[]),
    ("host", &["topology"]),
    ("etcd", &["topology", "access", "host"]),
    (
        "resource",
        &[
            "topology",
            "membership",
            "reconcile",
            "access",
            "host",
            "etcd",
            "plugin",
        ],
    ),
    ("function", &["topology", "plugin", "resource"]),
    (
        "data_source",
        &["topology", "membership", "host", "etcd", "plugin", "resource"],
    ),
    (
        "action",
        &[
            "topology",
            "membership",
            "reconcile",
            "host",
            "etcd",
            "plugin",
            "resource",
        ],
    ),
    ("ephemeral", &["topology", "host", "etcd", "plugin", "resource"]),
    ("list", &["topology", "host", "etcd", "plugin", "resource"]),
    (
        "provider",
        &[
            "topology",
            "membership",
            "reconcile",
            "host",
            "etcd",
            "plugin",
            "resource",
            "data_source",
            "action",
            "ephemeral",
            "list",
            "function",
        ],
    ),
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_owned());
    }
}

/// The names that directly follow `crate::` in code, in a group (`crate::{a::B, c}`) too.
fn used(code: &str) -> BTreeSet<String> {
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = BTreeSet::new();
    for (place, mark) in code.match_indices("crate::") {
        let rest = &code[place + mark.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        names.insert(word(group));
        let mut depth = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(word(&group[at + 1..]));
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn rooms_use_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        let mut files = Vec::new();
        for place in [src.join(room), src.join(format!("{room}.rs"))] {
            if place.exists() {
                sources(&place, &mut files);
            }
        }
        assert!(!files.is_empty(), "the room {room} has no source");
        for file in files {
            for name in used(&std::fs::read_to_string(&file).unwrap()) {
                let other_room = ROOMS.iter().any(|(r, _)| *r == name) && name != *room;
                if other_room && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {room} must not use {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_its_arrows() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rooms: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms, known);
}

#[test]
fn uses_are_seen_in_all_their_forms() {
    let code = "use crate::topology::Server; // crate::resource\nuse crate::{etcd::{config, unit}, host};\nfn f() { crate::plugin::run() }";
    let names = used(code);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(names, ["etcd", "host", "plugin", "topology"]);
}

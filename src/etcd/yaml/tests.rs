use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn refused(text: &str) -> String {
    options(text).unwrap_err().to_string()
}

#[test]
fn values_have_the_types_of_the_core_schema() {
    let text = "name: a1\nquota-backend-bytes: 2147483648\nclient-cert-auth: true\nempty:\nratio: 0.5\nnegative: -1\n\
        log-outputs: [stderr, '/var/log/etcd']\npeer-transport-security:\n  cert-file: \"/x\"\n  same: &it [a]\n  again: *it\n";
    let wanted = json!({
        "name": "a1", "quota-backend-bytes": 2_147_483_648_u64, "client-cert-auth": true, "empty": null, "ratio": 0.5, "negative": -1,
        "log-outputs": ["stderr", "/var/log/etcd"],
        "peer-transport-security": {"cert-file": "/x", "same": ["a"], "again": ["a"]},
    });
    assert_eq!(Value::Object(options(text).unwrap()), wanted);
    for (text, wanted) in [
        ("0x1F", json!(31)),
        ("-0o17", json!(-15)),
        ("+7", json!(7)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551616", json!("18446744073709551616")),
        ("0x", json!("0x")),
        ("0x-1", json!("0x-1")),
        ("+-5", json!("+-5")),
        ("012", json!("012")),
        ("00", json!("00")),
        ("0", json!(0)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("inf", json!("inf")),
        ("-.inf", json!("-.inf")),
        ("NaN", json!("NaN")),
        ("1_000", json!("1_000")),
        ("10.0.0.11", json!("10.0.0.11")),
        ("2001-01-01", json!("2001-01-01")),
        ("no", json!("no")),
        ("~", json!(null)),
        ("'5'", json!("5")),
        ("\"true\"", json!("true")),
        ("!!str 5", json!("5")),
        ("! 5", json!("5")),
        ("!!int \"5\"", json!(5)),
        ("!!map {a: 1}", json!({"a": 1})),
        ("|-\n  a\n  b", json!("a\nb")),
    ] {
        assert_eq!(options(&format!("x: {text}")).unwrap()["x"], wanted, "{text}");
    }
}

#[test]
fn a_file_without_options_has_none() {
    for text in ["", "# nothing\n", "---\n", "~", "{}", "\u{feff}"] {
        assert_eq!(options(text).unwrap(), Options::new(), "{text:?}");
    }
}

#[test]
fn what_is_no_file_of_options_is_refused() {
    for (text, why) in [
        ("just a text", "no list of options"),
        ("- a", "no list of options"),
        ("a: b: c", ""),
        ("a: [", ""),
        ("a: 1\na: 2", "\"a\" is in it twice"),
        ("1: a\n'1': b", "\"1\" is in it twice"),
        ("x: {a: 1, \"a\": 1}", "\"a\" is in it twice"),
        ("x: &x {a: 1}\ny: {<<: *x}", "merges sections"),
        ("[a]: 1", "the name of an option"),
        ("a: &a [1]\n*a : 2", "the name of an option"),
        ("a: !secret b", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: !!set {b}", "tag"),
        ("a: 1\n---\nb: 1", "more than one document"),
        ("a: *b", ""),
        ("a: &a [*a]", "aliases"),
    ] {
        let said = refused(text);
        assert!(said.contains(why), "{text:?}: {said}");
    }
    assert_eq!(options("'<<': 1").unwrap()["<<"], 1);
}

#[test]
fn a_file_that_repeats_itself_is_refused() {
    let many = format!("a: &a [{}]\nb: [{}]\n", "0,".repeat(4000), "*a,".repeat(4000));
    assert!(refused(&many).contains("aliases"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), "*a,".repeat(1000));
    assert!(refused(&long).contains("aliases"));
    let laughs: String = ('b'..='z')
        .map(|name| {
            let before = char::from(name as u8 - 1);
            format!("{name}: &{name} [{}]\n", format!("*{before},").repeat(9))
        })
        .collect();
    assert!(refused(&format!("a: &a [lol]\n{laughs}")).contains("aliases"));
    assert!(refused(&"a: b\n".repeat(100_000)).contains("bytes"));
    assert!(refused(&format!("a: {}", "[".repeat(40))).contains("nest deeper"));
    assert!(refused(&format!("a: {}", "[".repeat(100_000))).contains("recursion limit"));
    assert!(refused(&format!("a:\n{}", "- ".repeat(100_000))).contains("nest deeper"));
}

/// As long as a file may be, in every form that could cost more than its length: the bound holds ten times over on a busy machine.
#[test]
fn no_file_takes_long() {
    let pieces = [
        "[", "{", "- ", "? ", "a: ", "[a,", "{a: ", "\"", "'", "&a ", "*a ", "!a ", "a\n", " \n", "\t", "-\n", "?\n",
        ":\n", "[],", "\\", "# \n", "---\n", "a ", "é", "\u{feff}", "a:\n ", "'' ", "\"\\\n", "[? ", "|\n", "!!str ",
        "\"a\": ", "&a [*a,", "a\r",
    ];
    for begin in ["", "x: &a b\ny: ["] {
        for piece in pieces {
            let file = format!("{begin}{}", piece.repeat((LONGEST - begin.len()) / piece.len()));
            let started = Instant::now();
            let _ = options(&file);
            assert!(started.elapsed() < Duration::from_secs(10), "{begin:?} {piece:?}");
        }
    }
}

fn tokens() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "a",
        "b: ",
        "- ",
        "? ",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "&a ",
        "*a ",
        "!",
        "!!str ",
        "!<x> ",
        "|",
        "|2-\n",
        ">+\n",
        "%YAML 1.2\n",
        "---",
        "...",
        "#c\n",
        "\t",
        "\r\n",
        "é",
        "\u{feff}",
        "\\",
        "\\x4",
        "<<: ",
        "~",
        "@",
        "0x1",
        "-",
        "1e5",
    ]);
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in prop_oneof![tokens(), any::<String>()]) {
        let _ = options(&text);
    }

    /// What is JSON means the same here.
    #[test]
    fn json_is_read_as_json(names in prop::collection::btree_map("[ -~é]{0,8}", "\\PC{0,8}", 0..8)) {
        let wanted: Options = names.into_iter().map(|(name, text)| (name, text.into())).collect();
        let text = serde_json::to_string(&wanted).unwrap();
        prop_assert_eq!(options(&text).unwrap(), wanted);
    }
}

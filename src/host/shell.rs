//! The one place where words of a shell are escaped.

/// `text` as one word of a POSIX shell, whatever it holds (except NUL, which no shell word can).
pub fn quote(text: &str) -> String {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./:=@,+".contains(&byte));
    if plain {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether `name` can be the name of a shell variable.
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn echoed_by_sh(word: &str) -> Vec<u8> {
        Command::new("sh")
            .arg("-c")
            .arg(format!("printf %s {word}"))
            .output()
            .expect("sh runs")
            .stdout
    }

    #[test]
    fn simple_words_stay_readable() {
        assert_eq!(quote("/etc/etcd/etcd.yaml"), "/etc/etcd/etcd.yaml");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("~root"), "'~root'");
    }

    #[test]
    fn variable_names() {
        assert!(is_variable_name("data_dir"));
        assert!(!is_variable_name("1st"));
        assert!(!is_variable_name("a b"));
        assert!(!is_variable_name(""));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_sh_gives_back_what_was_quoted(text in "[^\0]{0,40}") {
            prop_assert_eq!(echoed_by_sh(&quote(&text)), text.as_bytes());
        }
    }
}

//! What every script that runs as root keeps to, as far as its text tells.

use std::path::{Path, PathBuf};

/// Each script's path below `src`, and its lines without comments; also those that Rust files hold.
fn scripts() -> Vec<(String, Vec<String>)> {
    fn find(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "sh" || kind == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find(&src, &mut files);
    let read = files.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = text.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.starts_with('#') && !line.starts_with("//"));
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        (name, lines.map(str::to_owned).collect())
    });
    read.filter(|(name, _)| !name.ends_with("tests.rs")).collect()
}

/// Wants no line to be `wrong` but in these files, and wants those to have one.
fn only_in(what: &str, allowed: &[&str], wrong: impl Fn(&str) -> bool) {
    let (mut found, mut there) = (Vec::new(), Vec::new());
    for (name, lines) in scripts() {
        for line in lines.iter().filter(|line| wrong(line)) {
            if allowed.contains(&name.as_str()) {
                there.push(name.clone());
            } else {
                found.push(format!("{name}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
    for name in allowed {
        assert!(
            there.iter().any(|one| one == name),
            "{name} is allowed what it does not do: {what}"
        );
    }
}

/// `key=value` that a script prints by itself could be forged by a value with a line break.
#[test]
fn answers_are_told() {
    let key = |text: &str| {
        let key: String = text
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .collect();
        !key.is_empty() && text[key.len()..].starts_with('=')
    };
    let printed = |line: &str| {
        ["echo \"", "echo '", "echo \\\"", "echo ", "printf '", "printf \""]
            .iter()
            .any(|command| {
                line.match_indices(command)
                    .any(|(at, _)| key(&line[at + command.len()..]))
            })
    };
    // sed and awk print them too.
    let printed = |line: &str| {
        printed(line)
            || ["/", "print \"", "print \\\""].iter().any(|before| {
                line.match_indices(before).any(|(at, _)| {
                    let rest = &line[at + before.len()..];
                    let value = rest.split_once('=').map(|(_, value)| value.trim_start_matches('\\'));
                    key(rest) && value.is_some_and(|value| value.starts_with(['1', '&', '"']))
                })
            })
    };
    only_in(
        "an answer is printed without `tell`",
        // What they print goes into a file of root's, or is a line of another protocol.
        &["resource/cluster/preflight/listen.sh", "resource/cluster/catch_up.sh"],
        |line| printed(line),
    );
}

#[test]
fn programs_are_asked_for_their_version_by_no_root() {
    only_in(
        "a program is run to say its version",
        &["etcd/program.sh", "resource/k3s_server/look.sh", "host/facts.rs"],
        |line| {
            (line.contains(" --version ") || line.ends_with("--version)") || line.contains(" --version;"))
                && !line.contains('`')
        },
    );
    only_in("a process's program is run or read", &["etcd/program.sh"], |line| {
        line.contains("/exe\"") && !line.contains("readlink")
    });
}

#[test]
fn locks_are_roots() {
    only_in("a lock is taken", &["host/privilege.sh"], |line| {
        line.contains("flock -") || line.contains("flock 9") || line.contains("flock \"")
    });
}

/// Without `-T` a folder, or a link to one, that stands where the file is to go takes the file in.
#[test]
fn files_are_renamed_and_not_moved_into_folders() {
    only_in("mv without -T", &[], |line| {
        let moved = line.match_indices("mv ").filter(|(at, _)| {
            let before = line[..*at].chars().last();
            before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != '`')
        });
        let mut moved = moved.map(|(at, _)| &line[at + 3..]);
        let of_shell = line.contains("mv -") || line.contains("mv \"$") || line.contains("mv \\\"$");
        of_shell && moved.any(|rest| !rest.starts_with("-T ") && !rest.starts_with("-fT "))
    });
}

/// `rm -r` goes through whatever is mounted below. `delete_trees` does not; what stays here deletes folders that the same script made for itself, or that
/// a release was unpacked into, or a folder of the member's own user as that user.
#[test]
fn nothing_is_deleted_through_mounts() {
    let others = [
        "host/mounts.sh",
        "etcd/release/fetch.sh",
        "etcd/program.sh",
        "topology/hosts_block/edit.sh",
        "resource/binaries.sh",
        "etcd/restoring/restore_data.sh",
    ];
    only_in("rm -r", &others, |line| {
        line.contains("rm -r") || line.contains("rm -fr") || (line.contains("find ") && line.contains(" -delete"))
    });
}

/// Every place that follows links, or reads without end, in a folder that belongs to the member's user.
#[test]
fn the_data_directory_is_worked_in_as_its_owner() {
    // `$work` is a folder of root's in the first two. A member that is taken over has two users, and its data is renamed from the one's folder to the
    // other's; nothing is followed there.
    let others = [
        "etcd/release/fetch.sh",
        "topology/hosts_block/edit.sh",
        "resource/member/adopt.sh",
    ];
    only_in("root works in the data directory", &others, |line| {
        let touches = [
            "rm -rf", "mv ", "cat ", "chown ", "cp ", "<\"$data", ">\"$data", "head ", "sed -",
        ];
        let below = ["$data/", "\"$work", "$data\"/", "\"$data\""]
            .iter()
            .any(|path| line.contains(path));
        let owner = line.contains("as_user") || line.contains("put_aside");
        below && !owner && touches.iter().any(|command| line.contains(command))
    });
}

//! Golden files of the scripts that run as root, as they are sent: a review sees what changes. A file of `src` that is part of one is named in its
//! place, as it is reviewed there. After a change that is meant, `INSTA_UPDATE=always INSTA_FORCE_PASS=1` writes them again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::prefix;
use crate::scaling::VERSION;
use crate::terraform::Terraform;

/// What differs from run to run is named in place of what it is: random numbers and sums, keys and certificates, times.
fn without_chance(text: &str) -> String {
    let mut kept = String::new();
    let mut secret = false;
    for line in text.lines() {
        if line.contains("-----BEGIN ") {
            kept.push_str(&line[..line.find("-----BEGIN ").unwrap_or_default()]);
            kept.push_str("<PEM>");
            secret = true;
        }
        if secret {
            if let Some(at) = line.rfind("-----END ") {
                secret = false;
                kept.push_str(
                    line[at..]
                        .trim_start_matches("-----END ")
                        .split_once("-----")
                        .map_or("", |(_, rest)| rest),
                );
                kept.push('\n');
            }
            continue;
        }
        let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        if line.len() > 60 && line.chars().all(of_base64) {
            kept.push_str("<base64>\n");
            continue;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let hexadecimal = word.len() >= 8
                && word.chars().all(|c| c.is_ascii_hexdigit())
                && word.contains(|c: char| c.is_ascii_digit());
            // As in `20260131T120000Z`.
            let time = word.len() == 16 && word.find('T') == Some(8) && word.ends_with('Z');
            kept.push_str(if hexadecimal || time { "<number>" } else { word });
            let next = after.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(after.len());
            kept.push_str(&after[..next]);
            rest = &after[next..];
        }
        kept.push('\n');
    }
    kept
}

/// The scripts of `src` that others are put together from, the longest first.
fn parts() -> Result<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) = (vec![root.join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "sh") {
                let text = std::fs::read_to_string(&path)?;
                found.push((path.strip_prefix(root)?.display().to_string(), text));
            }
        }
    }
    found.sort_by_key(|(name, text)| (Reverse(text.len()), name.clone()));
    Ok(found)
}

/// The first script of each title for each host, but those that an earlier step has with the same text.
fn recorded(
    lab: &Lab,
    folder: &Path,
    parts: &[(String, String)],
    before: &mut BTreeSet<(String, String)>,
) -> Result<String> {
    let hosts = ["a1", "b1"];
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let mut first: BTreeMap<(String, String), String> = BTreeMap::new();
    for name in names {
        let mut words = name.splitn(3, ' ').skip(1);
        let (target, title) = (words.next().context("a target")?, words.next().context("a title")?);
        for host in hosts {
            let address = lab.public_address(host)?.unwrap_or(lab.private_address(host)?);
            if target.contains(&format!("@{address}:")) || target.ends_with(&format!("@{address}")) {
                let mut text = std::fs::read_to_string(folder.join(&name))?;
                for (name, part) in parts {
                    text = text.replace(part.as_str(), &format!("# … {name}\n"));
                    // In a file that a script writes.
                    text = text.replace(&part.replace('\'', "'\\''"), &format!("# … {name}\n"));
                }
                first
                    .entry((title.to_owned(), host.to_owned()))
                    .or_insert(without_chance(&text));
            }
        }
    }
    let new = first
        .into_iter()
        .filter(|((title, _), text)| before.insert((title.clone(), text.clone())));
    Ok(new
        .map(|((title, host), text)| format!("=== {host}: {title}\n{text}\n"))
        .collect())
}

#[test]
fn what_runs_as_root_is_what_was_reviewed() -> Result<()> {
    let lab = Builder::standard(&prefix("scripts")).up()?;
    let mut terraform = Terraform::new(&lab, "1.15")?;
    let one = Configuration::new(&lab, &["a1"], VERSION)?;
    let two = Configuration::new(&lab, &["a1", "b1"], VERSION)?;
    let changed = two.clone().member("config", "{ \"snapshot-count\" = \"5000\" }");
    terraform.configure(&one.render())?;
    let steps = [
        ("1-found", Some(&one)),
        ("2-join", Some(&two)),
        ("3-restart", Some(&changed)),
        ("4-leave", Some(&one)),
        ("5-destroy", None),
    ];
    let parts = parts()?;
    let mut before = BTreeSet::new();
    let folder = tempfile::tempdir()?;
    let mut found = Vec::new();
    for (name, configuration) in steps {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder)?;
        terraform.set_environment("ACCEPTANCE_SCRIPTS", &folder.display().to_string());
        match configuration {
            Some(configuration) => {
                terraform.write("main.tf", &configuration.render())?;
                terraform.apply()?;
            }
            None => drop(terraform.destroy()?),
        }
        found.push((name, recorded(&lab, &folder, &parts, &mut before)?));
    }
    for (name, text) in found {
        insta::assert_snapshot!(name, text);
    }
    Ok(())
}

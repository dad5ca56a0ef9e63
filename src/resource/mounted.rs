//! What is mounted below a folder that was to be deleted: the answer `mounted` of [`crate::host::MOUNTS`], and what a user reads of it.

use crate::host::Output;
use crate::host::shell::quote;

/// The mount points that keep something from being deleted.
pub fn read(output: &Output) -> Vec<String> {
    output.values("mounted").map(str::to_owned).collect()
}

/// The text for the user; nothing if there are none. `state` says what was done all the same.
pub fn refusal(server: &str, mounted: &[String], state: &str) -> Option<String> {
    if mounted.is_empty() {
        return None;
    }
    let points: Vec<String> = mounted.iter().map(|point| format!("  \"{point}\"")).collect();
    // A line end in a name is shown as `\n`, which no command takes for one.
    let first = mounted
        .iter()
        .find(|point| !point.contains('\\'))
        .map(|point| quote(point));
    let how = first.map_or_else(String::new, |first| {
        format!(" (`umount {first}`; `fuser -vm {first}` names what uses it)")
    });
    Some(format!(
        "On server {server} something is mounted below a folder that is to be deleted, and what is on it would be deleted too:\n{}\n\
         Nothing was deleted. {state} Unmount it there{how}, and run the same command again.",
        points.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_point_is_named_on_a_line_of_its_own() {
        assert_eq!(refusal("a1", &[], ""), None);
        let said = refusal("a1", &["/v/a\\nb".to_owned(), "/v/x y".to_owned()], "It runs.").unwrap_or_default();
        for part in [
            "\n  \"/v/a\\nb\"\n  \"/v/x y\"\n",
            "`umount '/v/x y'`",
            "Nothing was deleted. It runs. ",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

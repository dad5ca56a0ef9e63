//! What a member's log says of its end, and what can be done about it.

use crate::etcd::layout::Layout;
use crate::host::{Host, Script};
use crate::membership::quorum;

/// What is wrong with a member's data, as far as etcd's own words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// bbolt, or the reader of the write-ahead log, gave up on a file.
    Files,
    /// It has told the cluster more than its data holds, as after a machine was set back to an older image
    /// (raft, `log.go`: `tocommit … is out of range`).
    SetBack,
}

/// What was found in the log.
pub struct Found {
    /// The lines that say most.
    pub lines: String,
    /// What is wrong with the data, if that is what ended it.
    pub damage: Option<Damage>,
}

/// Reads the log of the last start.
pub async fn read(host: &Host, layout: &Layout) -> Found {
    let script = Script::new("reading the member's log")
        .set("unit", layout.unit_name())
        .line(include_str!("log.sh"));
    match host.run(&script).await {
        Ok(output) => Found {
            lines: { output.text("log").into_iter().flat_map(str::lines) }
                .map(|line| format!("  {line}\n"))
                .collect(),
            damage: match output.value("damage") {
                Some("files") => Some(Damage::Files),
                Some("set-back") => Some(Damage::SetBack),
                _ => None,
            },
        },
        Err(error) => Found {
            lines: format!("  (the log could not be read: {error})"),
            damage: None,
        },
    }
}

/// What can be done about damaged data, and whether it is safe now: `healthy` of the `others` take part in the cluster.
pub fn advice(damage: Damage, server: &str, others: usize, healthy: usize) -> String {
    let what = match damage {
        Damage::Files => "etcd can't read its own files: the member's data is damaged.",
        Damage::SetBack => {
            "The member's data is older than what it has told the cluster, as after its machine was set back to an older image."
        }
    };
    let remedy = format!(
        "`terraform apply -replace='etcd_member.<name>[\"{server}\"]'` takes the member out of the cluster, sets its data aside, and has it \
         join again with the data of the others."
    );
    let needed = quorum(others);
    if others == 0 {
        return format!("{what} It is the only member: see the guide on disaster recovery. Do not replace it.");
    }
    if healthy < needed {
        return format!(
            "{what} Do not replace it yet: without it {others} members would remain, of which {needed} have to agree, and {healthy} are well \
             now. Bring the others back first. Then: {remedy}"
        );
    }
    format!(
        "{what} {remedy} That is safe now: without it {others} members remain, {needed} of them have to agree, and {healthy} are well."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_replaced_only_while_the_others_are_a_quorum() {
        let said = |others, healthy| advice(Damage::Files, "b1", others, healthy);
        assert!(said(2, 2).contains("-replace='etcd_member.<name>[\"b1\"]'"));
        assert!(
            said(2, 2)
                .contains("That is safe now: without it 2 members remain, 2 of them have to agree, and 2 are well")
        );
        assert!(said(2, 1).contains("Do not replace it yet"));
        assert!(said(0, 0).contains("Do not replace it."));
    }
}

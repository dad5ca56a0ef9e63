//! What a member's log says of its end.

use crate::etcd::layout::Layout;
use crate::host::{Host, Script};
use crate::membership::damage::Damage;

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
            damage: output.value("damage").and_then(Damage::of_log),
        },
        Err(error) => Found {
            lines: format!("  (the log could not be read: {error})"),
            damage: None,
        },
    }
}

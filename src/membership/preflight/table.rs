//! The pairs that don't reach each other, as a table. Its lines begin with spaces: Terraform leaves these as they are.

use std::fmt::Write as _;

use super::Refusal;

const HEAD: [&str; 5] = ["from", "to", "at", "what happened", "what to open or mend"];

/// The table of those among the refusals that are about pairs; empty if there are none.
pub fn table(refusals: &[Refusal]) -> String {
    let rows: Vec<[String; 5]> = refusals
        .iter()
        .filter_map(|refusal| match refusal {
            Refusal::Pair {
                from,
                to,
                address,
                what,
                remedy,
            } => Some([
                from.clone(),
                to.clone(),
                address.to_string(),
                what.clone(),
                remedy.clone(),
            ]),
            _ => None,
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let all: Vec<[String; 5]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    all.iter().fold(String::new(), |text, row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {cell:<width$}");
        }
        text + line.trim_end() + "\n"
    })
}

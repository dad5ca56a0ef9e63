//! The picture as a Mermaid flowchart.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Condition, Diagram, Place, milliseconds};

pub(super) fn draw(diagram: &Diagram) -> String {
    let mut text = format!("---\ntitle: {}\n---\nflowchart LR\n", yaml(&diagram.title));
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for (number, (network, places)) in diagram.networks.iter().enumerate() {
        let _ = writeln!(text, "  subgraph n{number}[\"{}\"]", quoted(network));
        for place in places {
            let id = format!("s{}", ids.len());
            let class = match place.condition {
                Some(Condition::Down) => ":::down",
                _ => "",
            };
            let _ = writeln!(text, "    {id}[\"{}\"]{class}", label(place));
            ids.insert(&place.name, id);
        }
        text.push_str("  end\n");
    }
    let mut styles = String::new();
    let mut edges = 0;
    let mut edge = |text: &mut String, from: &str, arrow: &str, rtt: &str, to: &str, style: &str| {
        let _ = writeln!(text, "  {} {arrow}{rtt} {}", ids[from], ids[to]);
        let _ = writeln!(styles, "  linkStyle {edges} {style}");
        edges += 1;
    };
    for link in &diagram.links {
        let rtt = link
            .rtt_ms
            .map(|ms| format!("|\"{} ms\"|", milliseconds(ms)))
            .unwrap_or_default();
        let style = if diagram.is_inside(link) {
            "stroke:#0f7b55"
        } else {
            "stroke:#b8500a"
        };
        if diagram.is_gone(link) {
            edge(
                &mut text,
                &link.one,
                "-.-",
                "",
                &link.other,
                "stroke:#d11f2f,stroke-width:1px",
            );
            continue;
        }
        match link.dead.as_slice() {
            [] => edge(&mut text, &link.one, "<-->", &rtt, &link.other, style),
            [(from, to)] => {
                edge(&mut text, to, "-->", &rtt, from, style);
                edge(&mut text, from, "-.-x", "", to, "stroke:#d11f2f");
            }
            _ => edge(&mut text, &link.one, "x-.-x", "", &link.other, "stroke:#d11f2f"),
        }
    }
    text.push_str(&styles);
    text.push_str("  classDef down stroke:#d11f2f,stroke-width:2px,stroke-dasharray:4 3\n");
    text
}

fn label(place: &Place) -> String {
    let mut label = format!("<b>{}</b>", quoted(&place.name));
    label.push_str(match place.condition {
        Some(Condition::Leader) => " (leader)",
        Some(Condition::Learner) => " (learner)",
        Some(Condition::Down) => " (down)",
        Some(Condition::Healthy) | None => "",
    });
    let _ = write!(label, "<br>inside: {}", place.private);
    if let Some(public) = place.public {
        let _ = write!(label, "<br>outside: {public}");
    }
    label
}

/// Within the quotes of a label.
fn quoted(text: &str) -> String {
    // A number sign begins an entity, and a backtick makes Markdown of the label.
    text.replace('#', "#35;")
        .replace('`', "#96;")
        .replace('&', "#amp;")
        .replace('"', "#quot;")
        .replace('<', "#lt;")
        .replace('>', "#gt;")
}

fn yaml(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

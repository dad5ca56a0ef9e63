//! The picture as SVG.

use std::fmt::Write as _;

use super::layout::{Area, BORDER, Layout, NetworkBox, Side, TITLE, count};
use super::{Condition, Diagram, Link, Place};

/// How many dead directions are listed by name.
const LISTED: usize = 8;
const LINE: f64 = 20.0;

const STYLE: &str = "\
.page{fill:#fff}.net{fill:#f3f5f7;stroke:#9aa5b1;stroke-dasharray:6 4}.card{fill:#fff;stroke:#52606d}\
.t{font:13px system-ui,'Segoe UI',Arial,sans-serif;fill:#1f2933}.h{font-size:16px;font-weight:600}.b{font-weight:600}.s{fill:#52606d}\
.m{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}.mid{text-anchor:middle}.end{text-anchor:end}\
.in{fill:#0f7b55}.out{fill:#b8500a}.bad{fill:#c2182b}\
.l{fill:none;stroke-width:1.7}.lin{stroke:#0f7b55}.lout{stroke:#b8500a;stroke-opacity:.75}.dead{stroke:#d11f2f;stroke-width:2.2;stroke-dasharray:7 5}\
.gone{stroke:#d11f2f;stroke-width:1;stroke-dasharray:2 5}.head{fill:#d11f2f}.down{stroke:#d11f2f;stroke-width:2;stroke-dasharray:5 3}.pill{fill:#fff;stroke:#9aa5b1}\
@media (prefers-color-scheme:dark){.page{fill:#12171d}.net{fill:#1b222a;stroke:#5b6875}.card{fill:#0f141a;stroke:#7b8794}.t{fill:#e4e9ee}.s{fill:#a5b1bd}\
.in{fill:#5fd3a6}.out{fill:#ffa763}.bad{fill:#ff8a93}.lin{stroke:#3fb98a}.lout{stroke:#f08c42}.dead,.gone{stroke:#ff6470}.head{fill:#ff6470}\
.down{stroke:#ff6470}.pill{fill:#12171d;stroke:#5b6875}}";

pub(super) fn draw(diagram: &Diagram) -> String {
    let layout = Layout::of(diagram);
    let present = diagram.links.iter().filter(|link| !diagram.is_gone(link));
    let dead: Vec<&(String, String)> = present.flat_map(|link| &link.dead).collect();
    let listed = dead.len().min(LISTED) + usize::from(dead.len() > LISTED);
    let foot = layout.height + 34.0;
    let height = foot + 12.0 + count(listed) * LINE + BORDER;
    let width = layout.width.max(640.0);
    let title = escaped(&diagram.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\"><style>{STYLE}</style>\n\
         <defs><marker id=\"x\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path class=\"head\" d=\"M0 0 10 5 0 10z\"/></marker></defs>\n\
         <rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n\
         <text class=\"t h\" x=\"{BORDER}\" y=\"{:.0}\">{title}</text>\n",
        TITLE - 8.0
    );
    layout
        .boxes
        .iter()
        .for_each(|network| network_box(&mut svg, diagram, network));
    // The dead ones last: above the others.
    let (dead_links, live): (Vec<&Link>, Vec<&Link>) = diagram.links.iter().partition(|link| !link.dead.is_empty());
    for link in live.into_iter().chain(dead_links) {
        lines(&mut svg, diagram, &layout, link);
    }
    for network in &layout.boxes {
        network
            .cards
            .iter()
            .for_each(|(place, area)| card(&mut svg, place, *area));
    }
    round_trips(&mut svg, diagram, &layout);
    legend(&mut svg, foot, !dead.is_empty());
    for (at, (from, to)) in dead.iter().take(LISTED).enumerate() {
        let y = foot + 12.0 + count(at + 1) * LINE;
        let address = diagram
            .address(to, from)
            .map(|address| format!(" at {address}"))
            .unwrap_or_default();
        let text = escaped(&format!("{from} does not reach {to}{address}"));
        let _ = writeln!(svg, "<text class=\"t bad\" x=\"{BORDER}\" y=\"{y:.0}\">{text}</text>");
    }
    if dead.len() > LISTED {
        let y = foot + 12.0 + count(LISTED + 1) * LINE;
        let more = dead.len() - LISTED;
        let _ = writeln!(
            svg,
            "<text class=\"t bad\" x=\"{BORDER}\" y=\"{y:.0}\">and {more} more directions are dead</text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn network_box(svg: &mut String, diagram: &Diagram, network: &NetworkBox<'_>) {
    let Area { x, y, width, height } = network.area;
    let _ = writeln!(
        svg,
        "<rect class=\"net\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"10\"/>"
    );
    let heading = if network.side == Side::Bottom {
        y + height - 10.0
    } else {
        y + 22.0
    };
    let inside = diagram
        .round_trips(network.name, network.name)
        .map(|rtt| format!("{rtt} inside"));
    let name = escaped(network.name);
    let _ = writeln!(
        svg,
        "<text class=\"t b\" x=\"{:.1}\" y=\"{heading:.1}\">{name}</text>",
        x + 14.0
    );
    if let Some(inside) = inside {
        let x = x + width - 14.0;
        let _ = writeln!(
            svg,
            "<text class=\"t in end\" x=\"{x:.1}\" y=\"{heading:.1}\">{inside}</text>"
        );
    }
}

fn card(svg: &mut String, place: &Place, area: Area) {
    let Area { x, y, width, height } = area;
    let down = if place.condition == Some(Condition::Down) {
        " down"
    } else {
        ""
    };
    let _ = writeln!(
        svg,
        "<rect class=\"card{down}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"7\"/>"
    );
    let (left, right) = (x + 12.0, x + width - 12.0);
    let name = escaped(&place.name);
    let _ = writeln!(
        svg,
        "<text class=\"t b\" x=\"{left:.1}\" y=\"{:.1}\">{name}</text>",
        y + 22.0
    );
    let condition = match place.condition {
        Some(Condition::Leader) => Some(("s", "leader")),
        Some(Condition::Learner) => Some(("s", "learner")),
        Some(Condition::Down) => Some(("bad", "down")),
        Some(Condition::Healthy) | None => None,
    };
    if let Some((class, text)) = condition {
        let _ = writeln!(
            svg,
            "<text class=\"t {class} end\" x=\"{right:.1}\" y=\"{:.1}\">{text}</text>",
            y + 22.0
        );
    }
    let mut address = |class: &str, label: &str, address: Option<std::net::IpAddr>, y: f64| {
        let Some(address) = address else { return };
        let _ = writeln!(
            svg,
            "<text class=\"t s\" x=\"{left:.1}\" y=\"{y:.1}\">{label}</text>\
             <text class=\"m {class} end\" x=\"{right:.1}\" y=\"{y:.1}\">{address}</text>"
        );
    };
    address("in", "inside", Some(place.private), y + 44.0);
    address("out", "outside", place.public, y + 63.0);
}

/// Where lines to other networks begin, and which way they leave.
fn inner(side: Side, area: Area) -> ((f64, f64), (f64, f64)) {
    let (x, y) = (area.x + area.width / 2.0, area.y + area.height / 2.0);
    match side {
        Side::Left => ((area.x + area.width, y), (1.0, 0.0)),
        Side::Right => ((area.x, y), (-1.0, 0.0)),
        Side::Bottom => ((x, area.y), (0.0, -1.0)),
        Side::Top => ((x, area.y + area.height), (0.0, 1.0)),
    }
}

/// Where lines within the network begin, and which way they bulge: its outer side.
fn outer(side: Side, area: Area) -> ((f64, f64), (f64, f64)) {
    let (x, y) = (area.x + area.width / 2.0, area.y + area.height / 2.0);
    match side {
        Side::Left => ((area.x, y), (-1.0, 0.0)),
        Side::Right => ((area.x + area.width, y), (1.0, 0.0)),
        Side::Bottom => ((x, area.y + area.height), (0.0, 1.0)),
        Side::Top => ((x, area.y), (0.0, -1.0)),
    }
}

fn lines(svg: &mut String, diagram: &Diagram, layout: &Layout<'_>, link: &Link) {
    let inside = diagram.is_inside(link);
    let class = if inside { "lin" } else { "lout" };
    if diagram.is_gone(link) {
        if let Some(path) = path(layout, &link.one, &link.other, inside) {
            let _ = writeln!(svg, "<path class=\"l gone\" d=\"{path}\"/>");
        }
        return;
    }
    if link.dead.len() < 2
        && let Some(path) = path(layout, &link.one, &link.other, inside)
    {
        let _ = writeln!(svg, "<path class=\"l {class}\" d=\"{path}\"/>");
    }
    for (from, to) in &link.dead {
        if let Some(path) = path(layout, from, to, inside) {
            let _ = writeln!(svg, "<path class=\"l dead\" marker-end=\"url(#x)\" d=\"{path}\"/>");
        }
    }
}

fn path(layout: &Layout<'_>, from: &str, to: &str, inside: bool) -> Option<String> {
    let ((one_side, one), (other_side, other)) = (layout.card(from)?, layout.card(to)?);
    if inside {
        let (((ax, ay), (dx, dy)), ((bx, by), _)) = (outer(one_side, one), outer(other_side, other));
        // The farther apart, the farther out, within the box.
        let apart = ((ax - bx).abs() + (ay - by).abs()) / 2.0;
        let bulge = (apart * 0.5).clamp(24.0, 44.0);
        return Some(format!(
            "M{ax:.1} {ay:.1}C{:.1} {:.1} {:.1} {:.1} {bx:.1} {by:.1}",
            ax + dx * bulge,
            ay + dy * bulge,
            bx + dx * bulge,
            by + dy * bulge
        ));
    }
    let (((ax, ay), (adx, ady)), ((bx, by), (bdx, bdy))) = (inner(one_side, one), inner(other_side, other));
    let pull = 60.0;
    Some(format!(
        "M{ax:.1} {ay:.1}C{:.1} {:.1} {:.1} {:.1} {bx:.1} {by:.1}",
        ax + adx * pull,
        ay + ady * pull,
        bx + bdx * pull,
        by + bdy * pull
    ))
}

/// A text in the middle between each two networks.
fn round_trips(svg: &mut String, diagram: &Diagram, layout: &Layout<'_>) {
    let middle = |network: &NetworkBox<'_>| {
        let ends = network.cards.iter().map(|(_, area)| inner(network.side, *area).0);
        let (x, y) = ends.fold((0.0, 0.0), |(x, y), (ax, ay)| (x + ax, y + ay));
        let cards = count(network.cards.len()).max(1.0);
        (x / cards, y / cards)
    };
    for (at, one) in layout.boxes.iter().enumerate() {
        for other in &layout.boxes[at + 1..] {
            let Some(text) = diagram.round_trips(one.name, other.name) else {
                continue;
            };
            let ((ax, ay), (bx, by)) = (middle(one), middle(other));
            let bend = if one.side == other.side { 45.0 } else { 0.0 };
            let x = f64::midpoint(ax, bx) + if one.side == Side::Right { -bend } else { bend };
            let y = f64::midpoint(ay, by);
            let width = count(text.len()) * 7.2 + 16.0;
            let _ = writeln!(
                svg,
                "<rect class=\"pill\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"22\" rx=\"11\"/>\
                 <text class=\"t mid\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
                x - width / 2.0,
                y - 11.0,
                y + 4.5
            );
        }
    }
}

fn legend(svg: &mut String, y: f64, dead: bool) {
    let mut x = BORDER;
    let entries = [
        ("lin", "by the address inside", 200.0, true),
        ("lout", "by the address outside", 210.0, true),
        ("dead", "dead direction", 160.0, dead),
    ];
    for (class, text, width, _) in entries.into_iter().filter(|(.., shown)| *shown) {
        let _ = writeln!(
            svg,
            "<path class=\"l {class}\" d=\"M{x:.0} {:.0}h28\"/><text class=\"t s\" x=\"{:.0}\" y=\"{y:.0}\">{text}</text>",
            y - 4.0,
            x + 36.0
        );
        x += width;
    }
}

fn escaped(text: &str) -> String {
    // What XML has no place for, not even escaped (XML 1.0, 2.2).
    let known = |c: char| matches!(c, '\t' | '\n' | '\r') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
    text.replace(|c| !known(c), "\u{fffd}")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

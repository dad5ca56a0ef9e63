//! Where things stand in the SVG picture. The first network is a column at the left, the second one at the right, the third
//! a row at the bottom, the fourth one at the top; further ones go on the two columns. Lines between networks run
//! through the free space in the middle, those within a network along its outer side: none runs behind a server.

use std::collections::BTreeMap;

use super::{Diagram, Place};

/// Height of a server's card.
pub(super) const CARD_HEIGHT: f64 = 74.0;
/// Between two cards.
const GAP: f64 = 26.0;
/// Around the cards of a network: also room for the lines within it.
const MARGIN: f64 = 40.0;
/// Above the cards of a network, for its name.
const HEADING: f64 = 34.0;
/// Around everything.
pub(super) const BORDER: f64 = 24.0;
/// Above everything, for the title.
pub(super) const TITLE: f64 = 44.0;

/// A side of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Bottom,
    Top,
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A network's box with its cards.
#[derive(Debug)]
pub(super) struct NetworkBox<'a> {
    pub(super) name: &'a str,
    pub(super) side: Side,
    pub(super) area: Area,
    pub(super) cards: Vec<(&'a Place, Area)>,
}

/// Everything in its place.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) width: f64,
    /// Without what stands below the networks.
    pub(super) height: f64,
    pub(super) boxes: Vec<NetworkBox<'a>>,
}

impl<'a> Layout<'a> {
    pub(super) fn of(diagram: &'a Diagram) -> Self {
        let card = card_width(diagram);
        let mut sides: BTreeMap<usize, Vec<(&str, &[Place])>> = BTreeMap::new();
        for (number, (name, places)) in diagram.networks.iter().enumerate() {
            let side = if number < 4 { number } else { number % 2 };
            sides.entry(side).or_default().push((name, places));
        }
        let of_side = |side: usize| sides.get(&side).map(Vec::as_slice).unwrap_or_default();
        let column_width = card + 2.0 * MARGIN;
        let column_height = |networks: &[(&str, &[Place])]| -> f64 {
            let heights: f64 = networks.iter().map(|(_, places)| column(places.len())).sum();
            heights + GAP * (count(networks.len()) - 1.0).max(0.0)
        };
        let row_width = |networks: &[(&str, &[Place])]| {
            networks
                .iter()
                .map(|(_, places)| row(places.len(), card))
                .fold(0.0, f64::max)
        };
        let row_height = HEADING + CARD_HEIGHT + MARGIN;
        let (left, right, bottom, top) = (of_side(0), of_side(1), of_side(2), of_side(3));
        let columns_height = column_height(left).max(column_height(right));
        // Room for the lines, and for the round trips on them.
        let middle = if right.is_empty() { 0.0 } else { 250.0 };
        let columns = if right.is_empty() { 1.0 } else { 2.0 };
        let inner = (columns * column_width + middle)
            .max(row_width(bottom))
            .max(row_width(top));
        let space = 110.0;
        let top_height = if top.is_empty() { 0.0 } else { row_height + space };
        let bottom_height = if bottom.is_empty() { 0.0 } else { row_height + space };
        let first = TITLE + BORDER + top_height;
        let mut boxes = Vec::new();
        for (side, networks, x) in [
            (Side::Left, left, BORDER),
            (Side::Right, right, BORDER + inner - column_width),
        ] {
            let mut y = first + (columns_height - column_height(networks)) / 2.0;
            for (name, places) in networks {
                let height = column(places.len());
                let area = Area {
                    x,
                    y,
                    width: column_width,
                    height,
                };
                boxes.push(NetworkBox::column(name, side, area, places, card));
                y += height + GAP;
            }
        }
        for (side, networks, y) in [
            (Side::Bottom, bottom, first + columns_height + space),
            (Side::Top, top, TITLE + BORDER),
        ] {
            for (name, places) in networks {
                let width = row(places.len(), card);
                let x = BORDER + (inner - width) / 2.0;
                let area = Area {
                    x,
                    y,
                    width,
                    height: row_height,
                };
                boxes.push(NetworkBox::row(name, side, area, places, card));
            }
        }
        Self {
            width: inner + 2.0 * BORDER,
            height: first + columns_height + bottom_height,
            boxes,
        }
    }

    /// A server's card, and the side that its network stands at.
    pub(super) fn card(&self, server: &str) -> Option<(Side, Area)> {
        self.boxes.iter().find_map(|network| {
            let card = network.cards.iter().find(|(place, _)| place.name == server)?;
            Some((network.side, card.1))
        })
    }
}

impl<'a> NetworkBox<'a> {
    fn column(name: &'a str, side: Side, area: Area, places: &'a [Place], width: f64) -> Self {
        let step = CARD_HEIGHT + GAP;
        Self::new(name, side, area, places, width, |at| {
            (area.x + MARGIN, area.y + HEADING + at * step)
        })
    }

    fn row(name: &'a str, side: Side, area: Area, places: &'a [Place], width: f64) -> Self {
        // The lines within a row run at its outer side; its heading stands there too.
        let y = if side == Side::Bottom {
            area.y + MARGIN * 0.4
        } else {
            area.y + HEADING + MARGIN * 0.6
        };
        let step = width + GAP;
        Self::new(name, side, area, places, width, |at| (area.x + MARGIN + at * step, y))
    }

    /// With a card for each place, whose corner is where `corner` says for its number.
    fn new(
        name: &'a str,
        side: Side,
        area: Area,
        places: &'a [Place],
        width: f64,
        corner: impl Fn(f64) -> (f64, f64),
    ) -> Self {
        let cards = places.iter().enumerate().map(|(at, place)| {
            let (x, y) = corner(count(at));
            let height = CARD_HEIGHT;
            (place, Area { x, y, width, height })
        });
        Self {
            name,
            side,
            area,
            cards: cards.collect(),
        }
    }
}

fn column(cards: usize) -> f64 {
    HEADING + count(cards) * (CARD_HEIGHT + GAP) - GAP + MARGIN / 2.0
}

fn row(cards: usize, card: f64) -> f64 {
    count(cards) * (card + GAP) - GAP + 2.0 * MARGIN
}

/// As wide as the longest text in any card: 7.3 for each character of its monospaced lines.
fn card_width(diagram: &Diagram) -> f64 {
    let places = diagram.networks.values().flatten();
    let longest = places.flat_map(|place| {
        let public = place.public.map_or(0, |address| address.to_string().len());
        [place.private.to_string().len() + 8, public + 8, place.name.len() + 10]
    });
    (count(longest.max().unwrap_or(0)) * 7.3 + 20.0).max(150.0)
}

/// Numbers of things in a picture are small.
pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

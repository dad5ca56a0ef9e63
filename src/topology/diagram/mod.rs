//! A picture of who dials whom by which address: networks as boxes, servers in them, round trips between them. PURE.
//!
//! By which address a server is dialled depends on nothing but whether the other one is in its network. So the addresses
//! stand with the server, and the colour of a line says which of them is meant: that stays readable where a text on each
//! of 42 directed pairs would not.

mod layout;
mod mermaid;
mod svg;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cluster::Topology;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagram {
    /// The heading.
    pub title: String,
    /// The servers by network, both sorted by name.
    pub networks: BTreeMap<String, Vec<Place>>,
    /// Every pair once.
    pub links: Vec<Link>,
}

/// A server in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The address for its own network.
    pub private: IpAddr,
    /// The address for other networks.
    pub public: Option<IpAddr>,
    /// How its member is; `None` where nobody looked.
    pub condition: Option<Condition>,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It takes part, and leads.
    Leader,
    /// It takes part.
    Healthy,
    /// It takes part, and doesn't vote.
    Learner,
    /// It does not take part.
    Down,
}

/// Two servers that dial each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The one.
    pub one: String,
    /// The other.
    pub other: String,
    /// The longer of both round trips, in ms, where it is known.
    pub rtt_ms: Option<f64>,
    /// The directions that are dead, each as who dials whom.
    pub dead: Vec<(String, String)>,
}

/// What was seen of one directed pair.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenPair {
    /// Who dials.
    pub from: String,
    /// Who is dialled.
    pub to: String,
    /// The round trip in ms, where it is known.
    pub rtt_ms: Option<f64>,
    /// Whether the direction is dead.
    pub dead: bool,
}

impl Diagram {
    /// The picture of a topology as it is meant to be.
    #[must_use]
    pub fn of(topology: &Topology, title: &str) -> Self {
        let mut networks: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for (name, server) in topology.servers() {
            networks.entry(server.network.to_string()).or_default().push(Place {
                name: name.to_string(),
                private: server.private_address,
                public: server.public_address,
                condition: None,
            });
        }
        let names: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
        let links = names.iter().enumerate().flat_map(|(at, one)| {
            names[at + 1..].iter().map(|other| Link {
                one: one.clone(),
                other: other.clone(),
                rtt_ms: None,
                dead: Vec::new(),
            })
        });
        Self {
            title: title.to_owned(),
            links: links.collect(),
            networks,
        }
    }

    /// The same with what was seen.
    #[must_use]
    pub fn with_seen(mut self, conditions: &BTreeMap<String, Condition>, pairs: &[SeenPair]) -> Self {
        for place in self.networks.values_mut().flatten() {
            place.condition = conditions.get(&place.name).copied();
        }
        for link in &mut self.links {
            let ends = |pair: &&SeenPair| {
                let way = (pair.from.as_str(), pair.to.as_str());
                way == (&link.one, &link.other) || way == (&link.other, &link.one)
            };
            let both: Vec<&SeenPair> = pairs.iter().filter(ends).collect();
            link.rtt_ms = both.iter().filter_map(|pair| pair.rtt_ms).max_by(f64::total_cmp);
            let dead = both.iter().filter(|pair| pair.dead);
            link.dead = dead.map(|pair| (pair.from.clone(), pair.to.clone())).collect();
        }
        self
    }

    /// As a Mermaid flowchart.
    #[must_use]
    pub fn mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// As an SVG image that needs nothing else, for light and dark pages.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    /// The address by which a server is dialled by this other one.
    fn address(&self, of: &str, by: &str) -> Option<IpAddr> {
        let inside = self.network_of(of)? == self.network_of(by)?;
        let place = self.networks.values().flatten().find(|place| place.name == of)?;
        if inside { Some(place.private) } else { place.public }
    }

    fn network_of(&self, server: &str) -> Option<&str> {
        let holds = |places: &Vec<Place>| places.iter().any(|place| place.name == server);
        let found = self.networks.iter().find(|(_, places)| holds(places));
        found.map(|(network, _)| network.as_str())
    }

    /// Whether one of the ends is down: its links are then gone with it, which is no news.
    fn is_gone(&self, link: &Link) -> bool {
        let mut places = self.networks.values().flatten();
        places.any(|place| {
            place.condition == Some(Condition::Down) && (place.name == link.one || place.name == link.other)
        })
    }

    /// Whether both ends stand in one network.
    fn is_inside(&self, link: &Link) -> bool {
        self.network_of(&link.one) == self.network_of(&link.other)
    }

    /// The round trips between two networks (or within one) as a text; `None` where none is known.
    fn round_trips(&self, one: &str, other: &str) -> Option<String> {
        let between = self.links.iter().filter(|link| {
            let ends = (self.network_of(&link.one), self.network_of(&link.other));
            ends == (Some(one), Some(other)) || ends == (Some(other), Some(one))
        });
        let times: Vec<f64> = between.filter_map(|link| link.rtt_ms).collect();
        let least = milliseconds(times.iter().copied().min_by(f64::total_cmp)?);
        let most = milliseconds(times.iter().copied().max_by(f64::total_cmp)?);
        Some(if least == most {
            format!("{most} ms")
        } else {
            format!("{least} to {most} ms")
        })
    }
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

#[cfg(test)]
mod tests;

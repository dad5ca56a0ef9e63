//! Everything that can be wrong with a topology. Each problem names its servers and the field that it is about,
//! so that the adapter can put it on an attribute.

use std::net::{IpAddr, SocketAddr};

use super::names::ServerName;

/// Why a server can't be dialled from another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The peer stands in another network and has no public address.
    #[error(
        "{peer} has no public address, but {viewer} stands in another network and has to reach it; \
         give {peer} a public_address, or put both in the same network if they reach each other by private address"
    )]
    NoPublicAddress {
        /// Who has to dial.
        viewer: ServerName,
        /// Who can't be dialled.
        peer: ServerName,
    },
    /// There is no server of that name.
    #[error("there is no server named {name}; there are: {known}")]
    UnknownServer {
        /// The name that was asked for.
        name: String,
        /// The names that there are, separated by commas.
        known: String,
    },
}

/// A field of a server that holds addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressField {
    /// `private_address`.
    Private,
    /// `public_address`.
    Public,
    /// `egress_addresses`, at this index.
    Egress(usize),
}

/// The field of a server that a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerField {
    /// `name`.
    Name,
    /// One of the address fields.
    Address(AddressField),
    /// `peer_port`.
    PeerPort,
    /// `client_port`.
    ClientPort,
}

impl ServerField {
    /// The attribute's name.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Address(AddressField::Private) => "private_address",
            Self::Address(AddressField::Public) => "public_address",
            Self::Address(AddressField::Egress(_)) => "egress_addresses",
            Self::PeerPort => "peer_port",
            Self::ClientPort => "client_port",
        }
    }
}

/// One problem of a set of servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The set is empty.
    #[error("a cluster needs at least one server")]
    NoServers,
    /// Two servers have one name.
    #[error("{count} servers are named {name}; every server needs a name of its own")]
    DuplicateName {
        /// The name.
        name: ServerName,
        /// How many servers have it.
        count: usize,
    },
    /// Nobody can dial such an address, or not the same machine from everywhere.
    #[error("{} of {server} is {address}: {why}", ServerField::Address(*.field).attribute())]
    UnusableAddress {
        /// The server.
        server: ServerName,
        /// Which of its addresses.
        field: AddressField,
        /// The address.
        address: IpAddr,
        /// What is wrong with it, in words.
        why: &'static str,
    },
    /// A port is 0.
    #[error("{} of {server} is 0; a port lies between 1 and 65535", .field.attribute())]
    PortZero {
        /// The server.
        server: ServerName,
        /// Which port.
        field: ServerField,
    },
    /// One server can't listen twice on one port.
    #[error("peer_port and client_port of {server} are both {port}; they must differ")]
    SamePorts {
        /// The server.
        server: ServerName,
        /// The port.
        port: u16,
    },
    /// A server has no public address, and somebody outside its network has to dial it.
    #[error(
        "{server} has no public address, but {viewer} stands in another network and has to reach it; \
         give {server} a public_address, or put both in the same network if they reach each other by private address"
    )]
    NoPublicAddress {
        /// The server without a public address.
        server: ServerName,
        /// One of those who have to dial it.
        viewer: ServerName,
    },
    /// Two servers look the same from a third one, or from one of them: a connection to one may reach the other.
    #[error(
        "from {viewer}, {first} ({} {}) and {second} ({} {}) are both at {endpoint}; \
         a connection meant for one would reach the other: give one of them another address or port",
        .first_field.attribute(), .first_port.attribute(), .second_field.attribute(), .second_port.attribute()
    )]
    SameEndpoint {
        /// The server that would take one for the other; the first such.
        viewer: ServerName,
        /// One of the two.
        first: ServerName,
        /// The field that its address comes from.
        first_field: ServerField,
        /// The port of it that clashes.
        first_port: ServerField,
        /// The other.
        second: ServerName,
        /// The field that its address comes from.
        second_field: ServerField,
        /// The port of it that clashes.
        second_port: ServerField,
        /// Where both seem to be.
        endpoint: SocketAddr,
    },
}

impl TopologyError {
    /// The server whose attribute the problem is shown on, and the attribute; none if it is about the whole set.
    #[must_use]
    pub fn place(&self) -> Option<(&ServerName, ServerField)> {
        match self {
            Self::NoServers => None,
            Self::DuplicateName { name, .. } => Some((name, ServerField::Name)),
            Self::UnusableAddress { server, field, .. } => Some((server, ServerField::Address(*field))),
            Self::PortZero { server, field } => Some((server, *field)),
            Self::SamePorts { server, .. } => Some((server, ServerField::ClientPort)),
            Self::NoPublicAddress { server, .. } => Some((server, ServerField::Address(AddressField::Public))),
            Self::SameEndpoint {
                second, second_field, ..
            } => Some((second, *second_field)),
        }
    }
}

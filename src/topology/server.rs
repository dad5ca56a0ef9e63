//! One server, and the one rule that says by which address it is dialled.

use std::net::{IpAddr, SocketAddr};

use super::error::ViewError;
use super::names::{NetworkName, ServerName};

/// One machine, as the user describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, and that of the member on it.
    pub name: ServerName,
    /// The network it stands in. Servers of one network reach each other by private address.
    pub network: NetworkName,
    /// Its address in its own network; on one of its interfaces.
    pub private_address: IpAddr,
    /// The address by which servers of other networks reach it, often on a router in front of it.
    pub public_address: Option<IpAddr>,
    /// The addresses that its outgoing connections come from where they differ from the above. Only etcd 3.4 needs
    /// them, as subject alternative names.
    pub egress_addresses: Vec<IpAddr>,
    /// The TCP port of its peer URL (etcd's default: 2380).
    pub peer_port: u16,
    /// The TCP port of its client URL (etcd's default: 2379).
    pub client_port: u16,
}

impl Server {
    /// The loopback address at which its member answers.
    #[must_use]
    pub fn loopback(&self) -> IpAddr {
        if self.private_address.is_ipv6() {
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::from(std::net::Ipv4Addr::LOCALHOST)
        }
    }

    /// All addresses of the machine: `::` takes IPv4 connections as well, so it is right for servers that have both.
    #[must_use]
    pub fn any_address(&self) -> IpAddr {
        let v6 = self.private_address.is_ipv6() || self.public_address.is_some_and(|address| address.is_ipv6());
        if v6 {
            IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED)
        }
    }

    /// Where its member listens for peers. A public address may be one of the machine's own or a NAT's in front, so a
    /// server that has one listens on all its addresses; certificates keep strangers out.
    #[must_use]
    pub fn peer_listener(&self) -> SocketAddr {
        let address = if self.public_address.is_some() {
            self.any_address()
        } else {
            self.private_address
        };
        SocketAddr::new(address, self.peer_port)
    }

    /// The address by which servers of `network` dial this one: private within its own network, else public.
    #[must_use]
    pub fn address_from(&self, network: &NetworkName) -> Option<IpAddr> {
        if *network == self.network {
            Some(self.private_address.to_canonical())
        } else {
            self.public_address.map(|address| address.to_canonical())
        }
    }
}

/// The address by which `viewer` dials `peer`: itself and the servers of its own network by private address,
/// everybody else by public address.
///
/// # Errors
/// [`ViewError::NoPublicAddress`] if `peer` stands in another network and has no public address.
pub fn address(viewer: &Server, peer: &Server) -> Result<IpAddr, ViewError> {
    peer.address_from(&viewer.network)
        .ok_or_else(|| ViewError::NoPublicAddress {
            viewer: viewer.name.clone(),
            peer: peer.name.clone(),
        })
}

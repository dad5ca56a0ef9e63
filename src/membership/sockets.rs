//! Established connections between members, as the two ends show them: by which address a peer comes, which a NAT may
//! make another one than it is dialled at.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One established connection, seen from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The end that looks.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl Socket {
    /// From `<local> <remote>` as `ss -n` writes them, or as `/proc/net/tcp` and `/proc/net/tcp6` do: 32-bit words in hexadecimal, each in
    /// the byte order of the machine.
    pub fn parse(text: &str, big_endian: bool) -> Option<Self> {
        let (local, remote) = text.split_once(' ')?;
        Some(Self {
            local: end(local, big_endian)?,
            remote: end(remote, big_endian)?,
        })
    }
}

fn end(text: &str, big_endian: bool) -> Option<SocketAddr> {
    if let Some(end) = read_by_people(text) {
        return Some(end);
    }
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len())
        .step_by(8)
        .map(|at| {
            let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
            Some(if big_endian {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            })
        })
        .collect();
    let bytes = words?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(Ipv4Addr::from(four)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

/// `10.0.0.11:2380`, `[2001:db8::1]:2380`, `[fe80::1]%eth0:2380` or `[fe80::1%eth0]:2380`.
fn read_by_people(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.split('%').next()?;
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?))
}

/// The address by which the connections of one member come to another. `outgoing` are its connections to that one;
/// `incoming` those that reached that one's peer port; `expected` is the address by which that one would dial it; `others`
/// are the addresses of the other members, by which it can't be told.
pub fn source(
    outgoing: &[Socket],
    incoming: &[Socket],
    expected: Option<IpAddr>,
    others: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    // A NAT keeps the port as a rule.
    let ports: BTreeSet<u16> = outgoing.iter().map(|socket| socket.local.port()).collect();
    let by_port = incoming
        .iter()
        .filter(|socket| ports.contains(&socket.remote.port()))
        .map(|socket| socket.remote.ip())
        .find(|address| Some(*address) == expected || !others.contains(address));
    by_port.or_else(|| expected.filter(|address| incoming.iter().any(|socket| socket.remote.ip() == *address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str) -> Socket {
        Socket {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    #[test]
    fn the_kernels_form_is_read() {
        let seen = Socket::parse("0B00000A:D431 1571CBCB:094C", false).unwrap();
        assert_eq!(seen, socket("10.0.0.11:54321", "203.203.113.21:2380"));
        let mapped = "0000000000000000FFFF00000B00000A:094C 0000000000000000FFFF00001571CBCB:D431";
        assert_eq!(
            Socket::parse(mapped, false).unwrap(),
            socket("10.0.0.11:2380", "203.203.113.21:54321")
        );
        assert_eq!(
            Socket::parse("0A00000B:094C CB710115:D431", true).unwrap().local,
            "10.0.0.11:2380".parse().unwrap()
        );
        assert_eq!(Socket::parse("nonsense", false), None);
    }

    #[test]
    fn the_form_for_people_is_read() {
        let seen = Socket::parse("10.0.0.11:2380 203.0.113.21:43210", false).unwrap();
        assert_eq!(seen, socket("10.0.0.11:2380", "203.0.113.21:43210"));
        let mapped = Socket::parse("[::ffff:10.0.0.11]:2380 [::ffff:203.0.113.21]:43210", false);
        assert_eq!(mapped, Some(seen));
        let six = Socket::parse("[2001:db8::1]:2380 [fe80::1]%eth0:43210", false).unwrap();
        assert_eq!(six, socket("[2001:db8::1]:2380", "[fe80::1]:43210"));
        assert_eq!(
            six,
            Socket::parse("[2001:db8::1]:2380 [fe80::1%eth0]:43210", false).unwrap()
        );
        assert_eq!(Socket::parse("10.0.0.11:2380", false), None);
        assert_eq!(Socket::parse(" ", false), None);
    }

    #[test]
    fn a_peer_is_known_by_its_port_where_a_nat_changed_its_address() {
        let outgoing = [socket("10.0.0.11:40001", "203.0.113.30:2380")];
        let incoming = [
            socket("192.168.7.31:2380", "203.0.113.11:40001"),
            socket("192.168.7.31:2380", "203.0.113.29:40001"),
        ];
        let others = BTreeSet::from(["203.0.113.11".parse().unwrap()]);
        let expected = Some("203.0.113.21".parse().unwrap());
        assert_eq!(
            source(&outgoing, &incoming, expected, &others),
            Some("203.0.113.29".parse().unwrap())
        );
    }

    #[test]
    fn without_its_port_only_the_expected_address_counts() {
        let outgoing = [socket("10.0.0.11:40001", "203.0.113.30:2380")];
        let incoming = [socket("192.168.7.31:2380", "203.0.113.21:999")];
        let expected: Option<IpAddr> = Some("203.0.113.21".parse().unwrap());
        assert_eq!(source(&outgoing, &incoming, expected, &BTreeSet::new()), expected);
        assert_eq!(source(&outgoing, &incoming, None, &BTreeSet::new()), None);
    }
}

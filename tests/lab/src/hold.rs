//! Distance: holds every packet of the made-up internet for the time that its link takes.
//!
//! The internet's router sends what it forwards into a TUN device; this reads it there, waits, and writes it back, upon which
//! the kernel routes it on. It is told what to do by a file (see [`crate::wan`]) and writes the generation that it follows to
//! `<file>.seen`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wan::Delay;

/// The TUN device's name in the internet's namespace.
pub(crate) const DEVICE: &str = "wan0";
/// How often the rules are looked at.
const RULES_EVERY: Duration = Duration::from_millis(20);

/// Source and destination.
pub(crate) type Pair = (IpAddr, IpAddr);

/// A packet with the time when it is due; the number keeps packets of the same time in order.
type Held = Reverse<(Instant, u64, Vec<u8>)>;

/// Holds packets until `stop` is set. The calling thread is moved into the network namespace at `namespace`, for good.
///
/// # Errors
/// When the namespace or its TUN device can't be opened, or reading from the device fails.
pub fn hold_packets(namespace: &Path, rules: &Path, stop: &AtomicBool) -> Result<()> {
    let handle = File::open(namespace).with_context(|| format!("opening {}", namespace.display()))?;
    move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering the internet's namespace")?;
    let mut device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/net/tun")
        .context("opening /dev/net/tun")?;
    tun::attach(&device, DEVICE).context("attaching to the TUN device")?;
    let mut link = Links::default();
    let mut held: BinaryHeap<Held> = BinaryHeap::new();
    let mut number = 0_u64;
    let mut buffer = vec![0_u8; 65536];
    while !stop.load(Ordering::Relaxed) {
        link.refresh(rules);
        let now = Instant::now();
        while held.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, _, packet))) = held.pop() {
                // One call is one packet. A full queue loses it, as a real one would.
                rustix::io::write(&device, &packet).ok();
            }
        }
        let wait = held.peek().map_or(RULES_EVERY, |Reverse((due, ..))| {
            due.saturating_duration_since(Instant::now()).min(RULES_EVERY)
        });
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&device, PollFlags::IN)], Some(&wait)).ok();
        // In portions, so that a flood of arrivals can't keep what is due from leaving.
        for _ in 0..256 {
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    break;
                }
                Err(error) => return Err(error).context("reading from the TUN device"),
            };
            let packet = &buffer[..length];
            if let Some(due) = pair_of(packet).and_then(|pair| link.due(pair, Instant::now())) {
                number += 1;
                held.push(Reverse((due, number, packet.to_vec())));
            }
        }
    }
    Ok(())
}

/// Source and destination of a packet; what is no IP packet has no link.
fn pair_of(packet: &[u8]) -> Option<Pair> {
    let four = |at: usize| {
        let octets = <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    let six = |at: usize| {
        let octets = <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    match packet.first()? >> 4 {
        4 => Some((four(12)?, four(16)?)),
        6 => Some((six(8)?, six(24)?)),
        _ => None,
    }
}

/// What is known of the links.
#[derive(Default)]
struct Links {
    delays: HashMap<Pair, Delay>,
    /// When the latest packet of a pair is due: jitter never reorders the packets of a pair.
    latest: HashMap<Pair, Instant>,
    file: Option<(u64, i64)>,
    checked: Option<Instant>,
    dice: Dice,
}

impl Links {
    fn refresh(&mut self, rules: &Path) {
        if self.checked.is_some_and(|at| at.elapsed() < RULES_EVERY) {
            return;
        }
        self.checked = Some(Instant::now());
        let Ok(file) = std::fs::metadata(rules).map(|m| (m.ino(), m.mtime_nsec())) else {
            return;
        };
        if self.file == Some(file) {
            return;
        }
        let Ok(text) = std::fs::read_to_string(rules) else {
            return;
        };
        let Some((generation, delays)) = crate::wan::parse_rules(&text) else {
            return;
        };
        self.file = Some(file);
        self.delays = delays;
        self.latest.clear();
        std::fs::write(rules.with_extension("seen"), generation.to_string()).ok();
    }

    /// When a packet that arrives now has to leave; none when it is lost.
    fn due(&mut self, pair: Pair, now: Instant) -> Option<Instant> {
        let Some(delay) = self.delays.get(&pair) else {
            return Some(now);
        };
        if self.dice.roll() * 100.0 < delay.loss_percent {
            return None;
        }
        let jitter = (self.dice.roll() * 2.0 - 1.0) * delay.jitter_ms;
        let due = now + Duration::from_secs_f64((delay.ms + jitter).max(0.0) / 1000.0);
        let latest = self.latest.entry(pair).or_insert(due);
        *latest = due.max(*latest);
        Some(*latest)
    }
}

/// A small generator of random numbers (xorshift); nothing depends on its quality.
struct Dice(u64);

impl Default for Dice {
    fn default() -> Self {
        Self(0x2545_F491_4F6C_DD1D ^ u64::from(std::process::id()))
    }
}

impl Dice {
    /// A number in 0..1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from((self.0 >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

mod tun {
    //! The one system call that no safe crate offers.

    use std::ffi::c_void;
    use std::fs::File;

    use rustix::io::Errno;
    use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

    /// `struct ifreq` as TUNSETIFF reads it: the name, the flags, and the rest of the union.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }

    /// IFF_TUN and IFF_NO_PI: bare IP packets.
    const FLAGS: u16 = 0x0001 | 0x1000;
    /// `_IOW('T', 202, int)`.
    const TUNSETIFF: Opcode = 0x4004_54CA;

    // SAFETY: the opcode takes a pointer to a `struct ifreq`, which `Request` is by layout and size (40 bytes), and it outlives
    // the call.
    unsafe impl Ioctl for Request {
        type Output = ();
        const IS_MUTATING: bool = true;

        fn opcode(&self) -> Opcode {
            TUNSETIFF
        }

        fn as_ptr(&mut self) -> *mut c_void {
            std::ptr::from_mut(self).cast()
        }

        unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
            Ok(())
        }
    }

    /// Makes `file`, an open /dev/net/tun, the other end of the device `name` of the thread's network namespace.
    pub(super) fn attach(file: &File, name: &str) -> Result<(), Errno> {
        let mut request = Request {
            name: [0; 16],
            flags: FLAGS,
            rest: [0; 22],
        };
        for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        // SAFETY: see the implementation above; the file is an open descriptor.
        unsafe { ioctl(file, request) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 21));

    fn links(delay: Delay) -> Links {
        Links {
            delays: HashMap::from([((A, B), delay)]),
            ..Links::default()
        }
    }

    #[test]
    fn a_packet_is_due_after_the_delay_of_its_direction() {
        let now = Instant::now();
        let mut links = links(Delay::ms(25.0));
        assert_eq!(links.due((A, B), now), Some(now + Duration::from_millis(25)));
        assert_eq!(links.due((B, A), now), Some(now));
    }

    #[test]
    fn a_cut_link_loses_everything_and_jitter_keeps_the_order() {
        let now = Instant::now();
        assert_eq!(links(Delay::CUT).due((A, B), now), None);
        let mut shaky = links(Delay {
            ms: 20.0,
            jitter_ms: 15.0,
            loss_percent: 0.0,
        });
        let due: Vec<_> = (0..50).filter_map(|_| shaky.due((A, B), now)).collect();
        assert!(due.is_sorted());
        assert_eq!(due.len(), 50);
    }

    #[test]
    fn ip_packets_have_a_pair() {
        let mut four = [0_u8; 20];
        four[0] = 0x45;
        four[12..16].copy_from_slice(&[203, 0, 113, 11]);
        four[16..20].copy_from_slice(&[203, 0, 113, 21]);
        assert_eq!(pair_of(&four), Some((A, B)));
        let (from, to) = (Ipv6Addr::from(1), Ipv6Addr::from(2));
        let mut six = [0_u8; 40];
        six[0] = 0x60;
        six[8..24].copy_from_slice(&from.octets());
        six[24..40].copy_from_slice(&to.octets());
        assert_eq!(pair_of(&six), Some((from.into(), to.into())));
        assert_eq!(pair_of(&six[..30]), None);
        assert_eq!(pair_of(&[0x45]), None);
    }
}

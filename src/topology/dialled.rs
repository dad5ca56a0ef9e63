//! What comes of dialling a server's port from another server.

use std::fmt;

use super::measured::milliseconds;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialled {
    /// The connection was opened; how long each handshake took, in ms: a round trip and very little more.
    Open(Vec<f64>),
    /// The machine at the address refused it: nothing listens there.
    Refused,
    /// Nobody answered within so many seconds.
    Silent(u64),
    /// A router said that there is no way.
    NoRoute,
    /// Anything else, in the system's words.
    Failed(String),
}

impl Dialled {
    /// From `<exit code> <message>` of a shell that dialled for `seconds` at most; an exit code of 0 has the handshakes' times
    /// in ms in the place of the message. 124 is what `timeout` says.
    pub fn parse(text: &str, seconds: u64) -> Option<Self> {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        Some(match code {
            "0" => Self::Open(rest.split(' ').filter_map(milliseconds).collect()),
            "124" | "143" => Self::Silent(seconds),
            _ if rest.contains("onnection refused") => Self::Refused,
            _ if rest.contains("timed out") => Self::Silent(seconds),
            _ if rest.contains("o route to host") || rest.contains("unreachable") => Self::NoRoute,
            _ if code.parse::<i32>().is_err() => return None,
            _ if rest.is_empty() => Self::Failed(format!("it failed with exit code {code}")),
            _ => Self::Failed(rest.to_owned()),
        })
    }

    /// The shortest handshake in ms: the round trip as it is without queues and lost packets.
    pub fn round_trip(&self) -> Option<f64> {
        match self {
            Self::Open(times) => times.iter().copied().min_by(f64::total_cmp),
            _ => None,
        }
    }
}

impl fmt::Display for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("open"),
            Self::Refused => f.write_str("connection refused"),
            Self::Silent(seconds) => write!(f, "no answer within {seconds} s"),
            Self::NoRoute => f.write_str("no route to host"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shells_say_is_understood() {
        let parse = |text| Dialled::parse(text, 3);
        assert_eq!(
            parse("0 25.4 24.9 1031.2"),
            Some(Dialled::Open(vec![25.4, 24.9, 1031.2]))
        );
        assert_eq!(
            parse("0 25.4 24.9 1031.2").and_then(|open| open.round_trip()),
            Some(24.9)
        );
        assert_eq!(parse("1 bash: connect: Connection refused"), Some(Dialled::Refused));
        assert_eq!(parse("1 bash: connect: No route to host"), Some(Dialled::NoRoute));
        assert_eq!(parse("1 bash: connect: Connection timed out"), Some(Dialled::Silent(3)));
        assert_eq!(parse("124 "), Some(Dialled::Silent(3)));
        assert_eq!(parse("7 odd"), Some(Dialled::Failed("odd".to_owned())));
        assert_eq!(
            parse("7"),
            Some(Dialled::Failed("it failed with exit code 7".to_owned()))
        );
        assert_eq!(parse("x"), None);
        assert_eq!(parse("0 nan -1 inf 25.4"), Some(Dialled::Open(vec![25.4])));
    }
}

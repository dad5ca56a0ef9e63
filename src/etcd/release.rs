//! stub
use std::fmt;
/// arch
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x
    Amd64,
    /// y
    Arm64,
}
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

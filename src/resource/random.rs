//! Random text for tokens and identities.

use data_encoding::HEXLOWER;

use crate::plugin::diagnostics::Diagnostic;

/// 128 random bits in hexadecimal.
///
/// # Errors
/// If the machine gives none.
pub fn random_text() -> Result<String, Diagnostic> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Diagnostic::error("No random text could be made", error.to_string()))?;
    Ok(HEXLOWER.encode(&bytes))
}

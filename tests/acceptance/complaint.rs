//! What Terraform complains of, and where: its diagnostics in JSON.

use anyhow::{Result, ensure};
use serde_json::Value;

/// An error as Terraform shows it.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The block, such as `etcd_server.a1`; empty for the provider's.
    pub address: String,
    /// The lines of the configuration that it points to.
    pub code: String,
    /// Summary and detail.
    pub text: String,
}

impl Complaint {
    /// The errors in what a Terraform with `-json` printed.
    pub fn all(printed: &str) -> Vec<Self> {
        let lines = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["diagnostic"]["severity"] == "error")
            .map(|line| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let diagnostic = &line["diagnostic"];
                Self {
                    address: text(&diagnostic["address"]),
                    code: text(&diagnostic["snippet"]["code"]),
                    text: text(&diagnostic["summary"]) + "\n" + &text(&diagnostic["detail"]),
                }
            })
            .collect()
    }

    /// Wants one of `complaints` to be about the attribute of the block at `address` and to have all of `words`.
    pub fn expect(complaints: &[Self], address: &str, attribute: &str, words: &[&str]) -> Result<()> {
        let points_to = |one: &Self| one.address == address && one.code.trim_start().starts_with(attribute);
        ensure!(
            complaints
                .iter()
                .any(|one| points_to(one) && words.iter().all(|word| one.text.contains(word))),
            "no error on {attribute} of {address} with the words {words:?} in:\n{complaints:#?}"
        );
        Ok(())
    }
}

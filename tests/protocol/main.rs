//! Terraform's protocol, spoken to the real service and the real binary.

mod process;
mod service;
mod things;

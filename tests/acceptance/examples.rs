//! Every example is what `terraform fmt` makes of it, and `terraform validate` accepts it with the provider that was just built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::terraform::{PROVIDER, VERSIONS, program};

/// Runs Terraform in the folder, with the provider from where cargo has put it, and leaves nothing there.
fn run(minor: &str, folder: &Path, aside: &Path, arguments: &[&str]) -> Result<()> {
    let built = Path::new(PROVIDER).parent().context("the provider is in no folder")?;
    let settings = aside.join("terraformrc");
    let overrides = format!(
        "disable_checkpoint = true\nprovider_installation {{\n  dev_overrides {{\n    \"crossnet/etcd\" = {:?}\n  }}\n}}\n",
        built.display().to_string()
    );
    fs::write(&settings, overrides)?;
    let output = Command::new(program(minor)?)
        .args(arguments)
        .current_dir(folder)
        .env("TF_CLI_CONFIG_FILE", &settings)
        .env("TF_DATA_DIR", aside.join("data"))
        .env_remove("TF_LOG")
        .output()
        .context("starting Terraform")?;
    ensure!(
        output.status.success(),
        "terraform {} in {}:\n{}{}",
        arguments.join(" "),
        folder.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The folders below that hold a configuration.
fn configurations(below: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(below)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(configurations(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "tf") {
            found.insert(below.to_owned());
        }
    }
    Ok(found)
}

#[test]
fn every_example_is_formatted_and_valid() -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders = configurations(&examples)?;
    ensure!(folders.len() > 5, "{folders:?}");
    for minor in VERSIONS {
        let aside = tempfile::tempdir()?;
        run(
            minor,
            &examples,
            aside.path(),
            &["fmt", "-recursive", "-check", "-diff"],
        )?;
        // Identities came with Terraform 1.12, actions with 1.14.
        let later = ["import-by-identity.tf", "action.tf"];
        let known = |folder: &&PathBuf| minor != "1.11" || !later.iter().any(|file| folder.join(file).exists());
        for folder in folders.iter().filter(known) {
            let aside = tempfile::tempdir()?;
            run(minor, folder, aside.path(), &["get", "-no-color"])?;
            run(minor, folder, aside.path(), &["validate", "-no-color"])?;
        }
    }
    Ok(())
}

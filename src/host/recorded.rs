//! Keeps each script as it is sent, for the golden files of the acceptance tests. The provider that users get has none of this: a script may hold
//! secrets.

use std::path::Path;
use std::time::SystemTime;

use super::files;
use super::script::Script;
use super::target::Target;

/// Writes it into the folder that `ACCEPTANCE_SCRIPTS` names, if it names one.
pub(super) fn keep(target: &Target, script: &Script) {
    let Some(folder) = std::env::var_os("ACCEPTANCE_SCRIPTS") else {
        return;
    };
    let text = script.render().replace(files::FUNCTIONS, "# … src/host/files.rs\n");
    // Several processes of the provider write into it, one after the other.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let name = format!("{now:024} {target} {}", script.title());
    if let Err(error) = std::fs::write(Path::new(&folder).join(name.replace('/', "_")), text) {
        tracing::warn!("the script is not recorded: {error}");
    }
}

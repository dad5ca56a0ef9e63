//! To which object of Terraform's the member or the k3s on a server belongs: a file beside its configuration says it. A create writes it before
//! it changes anything else, so that the delete of the object before it takes nothing away, whichever process carries that out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cluster::servers::root_file;
use super::objects;
use super::road::Road;
use super::server::model::ServerModel;
use crate::host::{FileSpec, Host, RunError, Script};
use crate::membership::incarnation::{Incarnation, is_superseded};
use crate::plugin::diagnostics::Diagnostic;

const READ: Duration = Duration::from_secs(20);

/// The object that is to have it.
pub struct Claim {
    object: Incarnation,
    /// It is being created.
    creates: bool,
    /// Written down also if nothing says to which object it belongs.
    always: bool,
    written: AtomicBool,
}

impl Claim {
    /// Of a create, or of an update of the object whose private state this is.
    ///
    /// # Errors
    /// If the machine gives no random text.
    pub fn new(creates: bool, private: &[u8]) -> Result<Self, Diagnostic> {
        let own = objects::kept(private).filter(|_| !creates);
        Ok(Self {
            creates,
            always: creates || own.is_some(),
            object: own.map_or_else(objects::fresh, Ok)?,
            written: AtomicBool::new(false),
        })
    }

    /// The object.
    pub fn object(&self) -> &Incarnation {
        &self.object
    }

    /// The private state that keeps it.
    pub fn kept(&self) -> Vec<u8> {
        let known = self.always || self.written.load(Ordering::Relaxed);
        objects::keep(Some(&self.object).filter(|_| known))
    }

    /// The same with the other words that an update has kept.
    pub fn kept_with(&self, words: &[u8]) -> Vec<u8> {
        match (self.creates, objects::kept(words)) {
            (true, _) => self.kept(),
            (false, Some(_)) => words.to_vec(),
            (false, None) => [words, self.kept().as_slice()].join(&b' ').trim_ascii().to_vec(),
        }
    }

    /// The file in this folder, for a script that brings everything onto the server.
    pub fn file(&self, folder: &str) -> Option<FileSpec> {
        if self.always {
            self.written.store(true, Ordering::Relaxed);
        }
        self.always.then(|| file(folder, &self.object))
    }

    /// Takes what is on the server already. `now`: the object that it belongs to.
    ///
    /// # Errors
    /// If the script can't run.
    pub async fn take(&self, host: &Host, folder: &str, now: Option<&Incarnation>) -> Result<(), RunError> {
        if now == Some(&self.object) || !(self.always || now.is_some()) {
            return Ok(());
        }
        write(host, folder, &self.object).await?;
        self.written.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A create failed: Terraform keeps the object before it, if there was one, and what is on the server is that one's again.
    pub async fn give_back(&self, host: &Host, folder: &str, before: Option<&Incarnation>) {
        if !self.creates || !self.written.load(Ordering::Relaxed) {
            return;
        }
        let given = match before {
            Some(before) => write(host, folder, before).await,
            None => {
                let script = Script::new("noting that it belongs to no object").set("folder", folder);
                host.run_checked(&script.line("rm -f \"$folder/object\""))
                    .await
                    .map(drop)
            }
        };
        if let Err(error) = given {
            // The next plan shows it as drift, and the apply ends that.
            tracing::debug!(%error, "what is on the server was not given back");
        }
    }
}

fn file(folder: &str, object: &Incarnation) -> FileSpec {
    root_file(format!("{folder}/object"), &object.to_string())
}

async fn write(host: &Host, folder: &str, object: &Incarnation) -> Result<(), RunError> {
    let script = Script::new("noting which object it belongs to").write_file(&file(folder, object));
    host.run_checked(&script).await.map(drop)
}

/// Something on a server that may belong to another object.
pub struct OnServer<'a> {
    /// What this process calls it.
    pub thing: String,
    /// Its server.
    pub server: &'a ServerModel,
    /// The folder with its configuration.
    pub folder: &'a str,
    /// The file there that says of which cluster it is, and what has to be in it.
    pub of: (&'a str, &'a str),
}

impl OnServer<'_> {
    /// Whether it belongs to a newer object than the one whose private state this is. A server that can't be reached does not say so.
    pub async fn is_superseded(&self, road: &Road, private: &[u8]) -> bool {
        let own = objects::kept(private);
        let known = road
            .newest()
            .and_then(|newest| newest.is_superseded(&self.thing, own.as_ref()));
        if let Some(known) = known {
            return known;
        }
        is_superseded(own.as_ref(), self.belongs_to(road).await.as_ref())
    }

    /// The object that it belongs to, as its server says.
    pub async fn belongs_to(&self, road: &Road) -> Option<Incarnation> {
        let host = road.connect(self.server, READ, false).await.ok()?;
        let (mark, of) = self.of;
        let script = Script::new("asking which object it belongs to")
            .set("folder", self.folder)
            .set("mark", mark)
            .line("if [ -f \"$folder/$mark\" ]; then tell of \"$(head -c 200 \"$folder/$mark\")\"; fi")
            .line("if [ -f \"$folder/object\" ]; then tell object \"$(head -c 200 \"$folder/object\")\"; fi");
        let output = host.run_checked(&script).await.ok()?;
        let ours = output.value("of").map(str::trim) == Some(of);
        ours.then(|| output.value("object").and_then(Incarnation::parse))?
    }
}

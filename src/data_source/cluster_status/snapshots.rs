//! Snapshots that a server takes of its member by itself, as the status shows them.

use crate::etcd::scheduled;
use crate::host::Output;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::topology::ClusterName;

/// What was seen of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduledLook {
    directory: String,
    count: usize,
    newest: Option<Newest>,
    /// Why the last run took none, or there will be none.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Newest {
    path: String,
    size: i64,
    taken_at: String,
    revision: i64,
}

impl ScheduledLook {
    /// What `look.sh` printed of them; `None` where the server takes none.
    pub fn of(output: &Output, cluster: &ClusterName) -> Option<Self> {
        let directory = output.value("snapshots.directory")?.to_owned();
        let file = |line: &str| {
            let (size, path) = line.split_once(' ')?;
            let name = path.strip_prefix(&directory)?.strip_prefix('/')?;
            let (taken_at, revision) = scheduled::parse_name(cluster, name)?;
            Some(Newest {
                path: path.to_owned(),
                size: size.parse().ok()?,
                taken_at,
                revision,
            })
        };
        let (mut count, mut newest) = (0, None::<Newest>);
        for file in output.values("snapshot").filter_map(file) {
            count += 1;
            if newest.as_ref().is_none_or(|newest| newest.path < file.path) {
                newest = Some(file);
            }
        }
        let failed = output.value("snapshots.failed").map(|why| match why {
            "" => "its last run failed, and the journal says why".to_owned(),
            why => format!("its last run took none: {why}"),
        });
        let idle = (output.value("snapshots.timer") != Some("active")).then(|| "its timer does not run".to_owned());
        Some(Self {
            directory,
            count,
            newest,
            error: idle.or(failed),
        })
    }

    /// The attribute.
    pub fn value(&self) -> Value {
        let newest = self.newest.as_ref();
        Value::object([
            ("directory", self.directory.as_str().into()),
            ("count", i64::try_from(self.count).unwrap_or(i64::MAX).into()),
            ("newest", newest.map(|file| file.path.as_str()).into()),
            ("taken_at", newest.map(|file| file.taken_at.as_str()).into()),
            ("revision", newest.map(|file| file.revision).into()),
            ("size", newest.map(|file| file.size).into()),
            ("error", self.error.as_deref().into()),
        ])
    }
}

/// The attribute's schema.
pub fn attribute() -> Attribute {
    let text = |name, description| Attribute::string(name).computed().describe(description);
    let number = |name, description| Attribute::number(name).computed().describe(description);
    Attribute::object(
        "snapshots",
        vec![
            text("directory", "The folder on the server."),
            number("count", "How many are in it."),
            text("newest", "The file of the newest; null if there is none."),
            text("taken_at", "When that was taken, in RFC 3339."),
            number("revision", "The revision of the newest change in it."),
            number("size", "Its size in bytes."),
            text(
                "error",
                "Why the last run took none, or that the timer does not run; null if all is well.",
            ),
        ],
    )
    .computed()
    .describe("Snapshots that the server takes by itself (`snapshots` of `etcd_member`). Null where it takes none.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(stdout: &str) -> Option<ScheduledLook> {
        ScheduledLook::of(&Output::of_answers(stdout), &ClusterName::parse("main").unwrap())
    }

    #[test]
    fn the_newest_is_found_among_others() {
        let stdout = "snapshots.directory=/snapshots\nsnapshot[]=100 /snapshots/main-20260102T030405Z-r9.db\n\
            snapshot[]=90 /snapshots/main-20260101T030405Z-r80.db\nsnapshot[]=1 /snapshots/main-20270101T030405Z-rx.db\n\
            snapshots.timer=active\nsnapshots.failed=the member is a learner\n";
        let seen = look(stdout).unwrap();
        let newest = seen.newest.unwrap();
        assert_eq!((seen.count, newest.revision, newest.size), (2, 9, 100));
        assert_eq!(newest.taken_at, "2026-01-02T03:04:05Z");
        assert_eq!(seen.error.unwrap(), "its last run took none: the member is a learner");
    }

    #[test]
    fn a_timer_that_does_not_run_is_said() {
        let seen = look("snapshots.directory=/snapshots\nsnapshots.timer=inactive\n").unwrap();
        assert_eq!((seen.count, seen.newest), (0, None));
        assert_eq!(seen.error.unwrap(), "its timer does not run");
        assert_eq!(look(""), None);
    }
}

//! What `eventstream doctor` asks of an SQLite file: the rules of the start, and
//! what is around the file: its place, its rights, its journal and its locks.
//!
//! Nothing is made or changed, not even the journal's mode. The write lock is
//! taken for a moment: who never gets it is what can be wrong between the
//! processes of a file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Access, access};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::time::Instant;

use super::{
    SqliteOptions, SqliteStore, Synchronous,
    connections::{Connections, is_busy, unavailable},
};
use crate::store::{Effect, Error, Finding, checkup::Checkup, migrate::SQLITE};

/// Where the shared memory of the WAL or its locks do not work.
const REMOTE: [&str; 8] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
];

/// A write transaction that is longer than that is noticed by everybody else.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A log of this size was not written back for long: somebody reads for long.
const LONG_LOG: u64 = 256 << 20;

impl SqliteStore {
    /// Looks at everything that the service needs, and changes nothing.
    pub async fn examine(options: SqliteOptions) -> Vec<Finding> {
        let mut checkup = Checkup::default();
        let path = options.path.clone();
        if look_around(&mut checkup, &options).await {
            match Self::existing(options).await {
                Ok(store) => {
                    isolation(&mut checkup, &path).await;
                    store.check_up(&mut checkup).await;
                    store.connections.close().await;
                }
                Err(error) => {
                    checkup.judge("connection", Err(error));
                }
            }
        }
        checkup.0
    }

    async fn existing(options: SqliteOptions) -> Result<Self, Error> {
        let options = Arc::new(options);
        let connections = Arc::new(Connections::existing(Arc::clone(&options)).await?);
        Ok(Self {
            options,
            connections,
        })
    }

    async fn check_up(&self, checkup: &mut Checkup) {
        let pending = self.pending().await;
        let pending = pending.map(|steps| steps.into_iter().map(|step| step.name).collect());
        let has_queue = self.check_contract().await;
        let there = !matches!(&has_queue, Err(Error::Unavailable { .. }));
        if !checkup.schema(pending, SQLITE.len(), there) {
            return;
        }
        let sound =
            has_queue.map(|()| "ids come from AUTOINCREMENT, in the order of commits".to_owned());
        if checkup.judge("table", sound) {
            checkup.reading(self).await;
        }
    }
}

/// Whether there is a file that can be served, as it is.
async fn look_around(checkup: &mut Checkup, options: &SqliteOptions) -> bool {
    let path = &options.path;
    if !path.exists() {
        checkup.warn(
            "file",
            format!("there is no {}", path.display()),
            "nothing: the service makes it at its start; or correct db.url",
        );
        return false;
    }
    let writable = checkup.judge("file", writable(path));
    let here = checkup.judge("file system", file_system(path));
    durability(checkup, options.synchronous);
    log_size(checkup, path);
    if !writable {
        return false;
    }
    match journal_mode(path).await {
        Ok(mode) if mode == "wal" => {
            checkup.ok(
                "journal",
                "WAL: readers and the one writer do not wait for each other",
            );
            here
        }
        Ok(mode) => {
            checkup.warn(
                "journal",
                format!("its mode is {mode}, the rest is looked at when it is WAL"),
                "nothing: the service changes it at its start, once nobody has the file open",
            );
            false
        }
        Err(error) if is_busy(&error) => {
            checkup.judge(ISOLATION, Err(Error::Contract(LOCKED.to_owned())))
        }
        Err(error) => checkup.judge("journal", Err(unreadable(path, &error))),
    }
}

fn writable(path: &Path) -> Result<String, Error> {
    let directory = directory(path);
    for (place, why) in [
        (path, ""),
        (
            &directory,
            ", where SQLite keeps -wal and -shm beside the file",
        ),
    ] {
        access(place, Access::WRITE_OK).map_err(|error| {
            Error::Contract(format!(
                "{} cannot be written ({error}){why}; let the service's user own it",
                place.display()
            ))
        })?;
    }
    Ok(format!(
        "{} and its directory can be written",
        path.display()
    ))
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn file_system(path: &Path) -> Result<String, Error> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let kind = kind_of(&mounts, &path).unwrap_or("unknown");
    if REMOTE.contains(&kind) {
        return Err(Error::Contract(format!(
            "it is {kind}, where SQLite's locks and shared memory do not work and the file breaks; \
             move it to a local disk"
        )));
    }
    Ok(kind.to_owned())
}

/// The kind of the innermost mount that has the path.
fn kind_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let place = Path::new(words.nth(1)?);
        let kind = words.next()?;
        path.starts_with(place)
            .then(|| (place.components().count(), kind))
    });
    // The later one of two at the same place is above the other.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

fn durability(checkup: &mut Checkup, synchronous: Synchronous) {
    const CHECK: &str = "durability";
    if synchronous == Synchronous::Normal {
        checkup.warn(
            CHECK,
            "db.synchronous is normal: a power cut can take the last commits",
            "set it to full, unless that is wanted",
        );
    } else {
        checkup.ok(
            CHECK,
            "what the service commits survives a power cut; for applications their own PRAGMA \
             synchronous decides",
        );
    }
}

fn log_size(checkup: &mut Checkup, path: &Path) {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = fs::metadata(log).map_or(0, |found| found.len());
    if size > LONG_LOG {
        checkup.warn(
            "log",
            format!(
                "the -wal file has {} MiB: it cannot be written back",
                size >> 20
            ),
            "end whatever reads for very long (a backup, a shell with an open transaction)",
        );
    } else {
        checkup.ok("log", format!("the -wal file has {} KiB", size >> 10));
    }
}

/// By a connection that cannot change it.
async fn journal_mode(path: &Path) -> Result<String, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(LOCK_WAIT)
        .read_only(true);
    let mut connection = options.connect().await?;
    let mode = sqlx::query_scalar("PRAGMA journal_mode");
    let mode: String = mode.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(mode)
}

fn unreadable(path: &Path, error: &sqlx::Error) -> Error {
    match unavailable(error) {
        Error::Unavailable { cause, .. } => Error::Unavailable {
            effect: Effect::None,
            cause: format!(
                "{} is no database that can be read: {cause}",
                path.display()
            ),
        },
        other => other,
    }
}

const ISOLATION: &str = "isolation";

/// What a file in WAL mode is to everybody else while one has it for itself.
const LOCKED: &str = "another process has the whole file locked, so that nobody else can read or write; \
     end it (fuser tells who has the file open), or let it run PRAGMA locking_mode = NORMAL";

/// Transactions here are serializable whatever anybody states; what can be wrong
/// is that somebody does not let others write. The lock is taken, and given back
/// without a change.
async fn isolation(checkup: &mut Checkup, path: &Path) {
    let begun = Instant::now();
    match write_lock(path).await {
        Ok(()) => checkup.ok(
            ISOLATION,
            format!(
                "serializable, one writer at a time: the write lock was free within {:.1} ms",
                begun.elapsed().as_secs_f64() * 1e3
            ),
        ),
        Err(error) if is_busy(&error) => checkup.warn(
            ISOLATION,
            format!(
                "the write lock was not free for {LOCK_WAIT:?}: a transaction is open, and nobody \
                 else can add an event or acknowledge one"
            ),
            "let it commit, or end its process; fuser tells who has the file open",
        ),
        Err(error) => {
            checkup.judge(ISOLATION, Err(unreadable(path, &error)));
        }
    }
}

async fn write_lock(path: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(LOCK_WAIT);
    let mut connection = options.connect().await?;
    for step in ["BEGIN IMMEDIATE", "ROLLBACK"] {
        sqlx::raw_sql(step).execute(&mut connection).await?;
    }
    connection.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_mount_tells_the_kind() {
        let mounts = "overlay / overlay rw 0 0\n\
                      disk /srv ext4 rw 0 0\n\
                      nas:/export /srv/nas nfs4 rw 0 0\n";
        for (path, kind) in [
            ("/srv/nas/a.db", "nfs4"),
            ("/srv/nasty/a.db", "ext4"),
            ("/home/a.db", "overlay"),
        ] {
            assert_eq!(kind_of(mounts, Path::new(path)), Some(kind));
        }
        assert_eq!(kind_of("", Path::new("/a")), None);
    }
}

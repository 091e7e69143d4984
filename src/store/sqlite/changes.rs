//! Whether anything was committed since the last look, without asking SQLite.
//!
//! Each commit in WAL mode rewrites the header of the WAL index (`-shm`), which
//! holds a counter of changes; to compare it is how SQLite itself notices the
//! commits of others (walformat.html §2.1). One read of 48 bytes replaces a
//! query through the driver's thread, a hundred times as dear. The index is
//! mapped memory of the same pages that a read sees, so a commit that was
//! acknowledged is always visible here. Whatever is unexpected means "look".

use std::{ffi::OsString, fs::File, os::unix::fs::FileExt as _, path::Path};

/// The first copy of the index header. A writer changes the second one first,
/// so a header caught half-written differs from the one before and after.
pub(super) type Header = [u8; 48];

/// The WAL index of a file that is held open by a connection: otherwise the
/// last other one to close would remove the index and the next make a new one.
pub(super) struct WalIndex(File);

impl WalIndex {
    /// `None` if there is none to read.
    pub(super) fn open(database: &Path) -> Option<Self> {
        let mut path = OsString::from(database);
        path.push("-shm");
        File::open(path).ok().map(Self)
    }

    /// The header as it is now.
    pub(super) fn header(&self) -> Option<Header> {
        let mut header: Header = [0; 48];
        self.0.read_exact_at(&mut header, 0).ok().map(|()| header)
    }
}

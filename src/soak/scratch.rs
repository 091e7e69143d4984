//! The scratch objects: made around a run, and removed to the last one. What
//! was there before is not touched; what cannot be removed is named.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use tokio::time::timeout;

use super::{
    engine::{Engine, Scratch, Session},
    plan::{Abilities, Shape},
};

/// For one statement that removes something: others may hold locks on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The database as it was found.
pub(super) struct Site {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) names: Scratch,
    /// The service's own tables that were there.
    service_tables: Vec<String>,
    /// A database file that was not.
    new_file: Option<PathBuf>,
}

impl Site {
    /// Looks, and makes nothing. `file`: of an embedded database.
    pub(super) async fn find(
        engine: Arc<dyn Engine>,
        names: Scratch,
        file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let new_file = file.filter(|file| !file.exists()).map(Path::to_owned);
        let mut service_tables = Vec::new();
        if new_file.is_none() {
            engine.check().await?;
            let mut session = engine.session().await?;
            service_tables = session.texts(engine.keyed_tables()).await?;
        }
        Ok(Self {
            engine,
            names,
            service_tables,
            new_file,
        })
    }

    /// Makes the helpers; what writers may do, and why not more.
    ///
    /// # Errors
    /// When two-phase commit is asked for and not there.
    pub(super) async fn equip(
        &self,
        two_phase: bool,
        hold: Duration,
    ) -> anyhow::Result<(Abilities, Vec<String>)> {
        let mut session = self.engine.session().await?;
        if two_phase {
            self.check_two_phase(&mut *session).await?;
        }
        session.run(&self.engine.make_other()).await?;
        let mut shapes = self.engine.plain_shapes().to_vec();
        let mut notes = Vec::new();
        for helper in self.engine.helpers() {
            let mut made = Ok(());
            for sql in &helper.make {
                made = session.run(sql).await;
                if made.is_err() {
                    break;
                }
            }
            match made {
                Ok(()) => shapes.push(helper.shape),
                Err(error) => notes.push(format!(
                    "no inserts by a {}: {error}",
                    format!("{:?}", helper.shape).to_lowercase()
                )),
            }
        }
        debug_assert!(!shapes.contains(&Shape::Values), "that is always there");
        let abilities = Abilities {
            shapes,
            two_phase,
            faults: self.engine.kill(0).is_some(),
            hold,
        };
        Ok((abilities, notes))
    }

    async fn check_two_phase(&self, session: &mut dyn Session) -> anyhow::Result<()> {
        let Some(two_phase) = self.engine.two_phase() else {
            bail!(
                "--two-phase: {} has no two-phase commit",
                self.engine.kind()
            );
        };
        // Without a look at what is prepared nothing could be cleaned up.
        let answer = match session.texts(two_phase.prepared).await {
            Ok(_) => session.texts(two_phase.allowed).await,
            refused => refused,
        };
        match answer {
            Ok(answer) if answer.first().is_some_and(|answer| answer == "yes") => Ok(()),
            Ok(_) => bail!("--two-phase: not allowed here; {}", two_phase.advice),
            Err(error) => bail!("--two-phase: {error}; {}", two_phase.advice),
        }
    }

    /// Removes everything; what is left, in words.
    pub(super) async fn clean(&self) -> Vec<String> {
        let mut left = Vec::new();
        let cleaned = if let Some(file) = &self.new_file {
            remove_file(file)
        } else {
            self.clean_database(&mut left).await
        };
        if let Err(error) = cleaned {
            left.push(format!("everything named {}…: {error:#}", self.names.queue));
        }
        left
    }

    async fn clean_database(&self, left: &mut Vec<String>) -> anyhow::Result<()> {
        let Scratch {
            queue,
            consumers,
            other,
        } = &self.names;
        let mut session = self.engine.session().await?;
        let mut statements = Vec::new();
        if let Some(two_phase) = self.engine.two_phase() {
            // A role that may not look for them has prepared none.
            let prepared = session.texts(two_phase.prepared).await.unwrap_or_default();
            let ours = prepared.iter().filter(|name| name.starts_with(queue));
            statements.extend(ours.map(|name| (two_phase.decide)(name, false)));
        }
        statements.extend(self.engine.helpers().into_iter().flat_map(|it| it.drop));
        for table in [other, consumers, queue] {
            statements.push(format!("DROP TABLE IF EXISTS {table}"));
        }
        for table in session.texts(self.engine.keyed_tables()).await? {
            statements.push(format!("DELETE FROM {table} WHERE stream = '{queue}'"));
        }
        for sql in statements {
            if let Err(error) = self.remove(&sql).await {
                left.push(format!("{sql}: {error:#}"));
            }
        }
        self.drop_service_tables(&mut *session, left).await
    }

    /// Those that the run brought, unless another stream has moved in since.
    async fn drop_service_tables(
        &self,
        session: &mut dyn Session,
        left: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        for table in session.texts(self.engine.keyed_tables()).await? {
            if self.service_tables.contains(&table) {
                continue;
            }
            let used = session
                .texts(&format!("SELECT stream FROM {table}"))
                .await?;
            let sql = format!("DROP TABLE {table}");
            if used.is_empty()
                && let Err(error) = self.remove(&sql).await
            {
                left.push(format!("{sql}: {error:#}"));
            }
        }
        Ok(())
    }

    /// On a session of its own: one that was given up waits on.
    async fn remove(&self, sql: &str) -> anyhow::Result<()> {
        let removed = async {
            let mut session = self.engine.session().await?;
            session.run(sql).await
        };
        Ok(timeout(PATIENCE, removed).await??)
    }
}

fn remove_file(file: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

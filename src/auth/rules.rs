//! The users in force: who has which credentials and rights.
//!
//! Immutable; a change of the files makes new ones, and unless all of them are
//! sound those before stay. The credential of an open stream is judged again by
//! the rules of that moment, so it is kept in a form that can be ([`Credential`]).
//! Verified signatures are remembered, up to a bound.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    fs::File as Source,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Denied,
    file::{Fault, File},
    jwt::{self, Identity, Issuer},
    rights::Rights,
    token,
};
use crate::{
    event::{Moment, User},
    limits,
};

/// What somebody identifies itself with.
#[derive(Clone)]
pub(super) enum Credential {
    /// The digest of a static token.
    Token([u8; 32]),
    /// A token that an issuer signed; kept for the life of a stream, so that it
    /// can be verified again by other keys.
    Jwt(Arc<str>, Option<Moment>),
    /// The names in a certificate, and its end.
    Certificate(Arc<[String]>, Moment),
    /// A front has found out by itself.
    Front(User),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Jwt(..) => "Jwt",
            Self::Certificate(..) => "Certificate",
            Self::Front(_) => "Front",
        })
    }
}

impl Credential {
    /// From when on it is none any more.
    pub(super) fn expiry(&self) -> Option<Moment> {
        match self {
            Self::Jwt(_, expiry) => *expiry,
            Self::Certificate(_, expiry) => Some(*expiry),
            Self::Token(_) | Self::Front(_) => None,
        }
    }

    pub(super) fn has_expired(&self, now: Moment) -> bool {
        self.expiry().is_some_and(|expiry| expiry <= now)
    }
}

/// All users.
#[derive(Default)]
pub(super) struct Rules {
    users: BTreeMap<User, Arc<Rights>>,
    /// By digest: finding one takes no longer the more of it was guessed, for
    /// nobody can make a token whose digest begins as another one's.
    tokens: HashMap<[u8; 32], User>,
    certificates: HashMap<String, User>,
    issuers: Vec<Issuer>,
    /// Signed tokens that were verified: a client sends the same one with every
    /// call. By digest, too.
    verified: Mutex<HashMap<[u8; 32], Identity>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// What kind of token this is.
    pub(super) fn of_token(&self, text: &str, now: Moment) -> Result<Credential, Denied> {
        let digest = token::digest(text);
        if self.tokens.contains_key(&digest) {
            return Ok(Credential::Token(digest));
        }
        if self.issuers.is_empty() || !jwt::is_meant(text) {
            return Err(unknown());
        }
        let identity = self.identity(text, now)?;
        Ok(Credential::Jwt(text.into(), identity.expires))
    }

    /// Whose credential it is, by the rules of now.
    pub(super) fn user_of(&self, credential: &Credential, now: Moment) -> Result<User, Denied> {
        let known = match credential {
            Credential::Token(digest) => self.tokens.get(digest).cloned().ok_or_else(unknown)?,
            Credential::Jwt(text, _) => self.identity(text, now)?.user,
            Credential::Certificate(..) if credential.has_expired(now) => {
                return Err(Denied::Unauthenticated(
                    "the certificate has expired".into(),
                ));
            }
            Credential::Certificate(names, _) => self.of_names(names)?,
            Credential::Front(user) => user.clone(),
        };
        if self.users.contains_key(&known) {
            return Ok(known);
        }
        let text = format!("user {} is not among the users", known.as_str());
        Err(Denied::Unauthenticated(text.into()))
    }

    pub(super) fn rights(&self, user: &User) -> Result<Arc<Rights>, Denied> {
        self.users.get(user).cloned().ok_or_else(unknown)
    }

    fn of_names(&self, names: &[String]) -> Result<User, Denied> {
        let mut found: Option<&User> = None;
        for user in names.iter().filter_map(|name| self.certificates.get(name)) {
            if found.is_some_and(|other| other != user) {
                let text = "the certificate has names of more than one user";
                return Err(Denied::Unauthenticated(text.into()));
            }
            found = Some(user);
        }
        found.cloned().ok_or(Denied::Unauthenticated(
            "no user has a name of the certificate".into(),
        ))
    }

    fn identity(&self, text: &str, now: Moment) -> Result<Identity, Denied> {
        let digest = token::digest(text);
        let lock = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&digest).cloned();
        let valid = |identity: &Identity| identity.expires.is_none_or(|expires| expires > now);
        if let Some(identity) = known.filter(valid) {
            return Ok(identity);
        }
        let identity = jwt::identify(&self.issuers, text)?;
        if !valid(&identity) {
            return Err(Denied::Unauthenticated("the token has expired".into()));
        }
        let mut verified = lock();
        if verified.len() >= limits::VERIFIED_TOKENS {
            verified.clear();
        }
        verified.insert(digest, identity.clone());
        Ok(identity)
    }

    fn of(file: File, read: &mut Reader) -> Result<Self, Fault> {
        let mut rules = Self::default();
        for (user, entry) in file.users {
            let at = &entry.at;
            for (index, digest) in entry.tokens.into_iter().enumerate() {
                rules.add_token(&user, digest, format_args!("{at}.tokens[{index}]"))?;
            }
            for (index, path) in entry.token_files.iter().enumerate() {
                let at = format!("{at}.token_files[{index}]");
                let text = read.file(path, &at)?;
                let text = text.trim();
                if text.is_empty() {
                    return Err(Fault::new(format!("{at}: {} is empty", path.display())));
                }
                rules.add_token(&user, token::digest(text), at)?;
            }
            for (index, name) in entry.certificates.into_iter().enumerate() {
                if let Some(other) = rules.certificates.insert(name, user.clone()) {
                    let place = format!("{at}.certificates[{index}]");
                    return Err(Fault::new(format!(
                        "{place} is that of user {} too",
                        other.as_str()
                    )));
                }
            }
            rules.users.insert(user, Arc::new(entry.rights));
        }
        for entry in file.issuers {
            let (path, at) = (entry.keys.clone(), format!("{}.keys", entry.at));
            let place = entry.at.clone();
            let issuer = Issuer::new(entry, &read.file(&path, &at)?, &path)?;
            if rules.issuers.iter().any(|other| other.iss == issuer.iss) {
                return Err(Fault::new(format!(
                    "{place}.issuer is that of another one too"
                )));
            }
            rules.issuers.push(issuer);
        }
        Ok(rules)
    }

    fn add_token(&mut self, user: &User, digest: [u8; 32], at: impl Display) -> Result<(), Fault> {
        match self.tokens.insert(digest, user.clone()) {
            None => Ok(()),
            Some(other) => Err(Fault::new(format!(
                "{at} is a token of user {} already",
                other.as_str()
            ))),
        }
    }
}

fn unknown() -> Denied {
    Denied::Unauthenticated("the token is not known".into())
}

/// Rules, and the files that they were read from.
pub(super) struct Loaded {
    pub(super) rules: Rules,
    pub(super) files: Vec<PathBuf>,
    /// Of what was read.
    pub(super) content: Content,
}

/// The content of files, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content(Vec<[u8; 32]>);

impl Content {
    /// As it is now.
    pub(super) fn of(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| Self::one(&read(file))).collect())
    }

    fn one(read: &io::Result<String>) -> [u8; 32] {
        match read {
            Ok(text) => token::digest(text),
            Err(error) => token::digest(&format!("cannot be read: {error}")),
        }
    }
}

/// Reads the users and everything that their file names. Paths in it are
/// relative to it.
pub(super) fn load(path: &Path) -> Result<Loaded, Fault> {
    let of_file = |fault: Fault| fault.of_file(path);
    let text = read(path);
    let content = Content(vec![Content::one(&text)]);
    let text = text.map_err(|error| of_file(Fault::new(format!("cannot be read: {error}"))))?;
    let file = File::read(&text).map_err(of_file)?;
    let mut reader = Reader {
        base: path.parent().map(Path::to_owned).unwrap_or_default(),
        files: vec![path.to_owned()],
        content,
    };
    let rules = Rules::of(file, &mut reader).map_err(of_file)?;
    Ok(Loaded {
        rules,
        files: reader.files,
        content: reader.content,
    })
}

struct Reader {
    base: PathBuf,
    files: Vec<PathBuf>,
    content: Content,
}

impl Reader {
    fn file(&mut self, path: &Path, at: &str) -> Result<String, Fault> {
        let path = self.base.join(path);
        let text = read(&path);
        self.content.0.push(Content::one(&text));
        let text = text.map_err(|error| {
            let place = path.display();
            Fault::new(format!("{at}: {place} cannot be read: {error}"))
        });
        self.files.push(path);
        text
    }
}

/// A file that may be as long as such files are.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = limits::MAX_AUTH_FILE_BYTES;
    Source::open(path)?
        .take(most + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(text)
}

/// Until this moment, or a part of the way: clocks are set.
pub(super) async fn sleep_towards(at: Moment) {
    let left = Moment::now().until(at);
    tokio::time::sleep(left.min(limits::EXPIRY_STEP)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::hash_line;

    fn fault(text: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("users");
        std::fs::write(dir.path().join("token"), "same\n").expect("written");
        std::fs::write(dir.path().join("empty"), "\n").expect("written");
        std::fs::write(&file, text).expect("written");
        load(&file).map(drop).expect_err(text).to_string()
    }

    #[test]
    fn what_two_users_have_is_a_fault() {
        let hash = hash_line("same");
        for (text, rule) in [
            (
                format!("[users.a]\ntokens = ['{hash}']\n[users.b]\ntokens = ['{hash}']"),
                "users.b.tokens[0] is a token of user a already",
            ),
            (
                format!("[users.a]\ntokens = ['{hash}']\ntoken_files = ['token']"),
                "users.a.token_files[0] is a token of user a already",
            ),
            (
                "[users.a]\ncertificates = ['cn:x']\n[users.b]\ncertificates = ['cn:x']".to_owned(),
                "users.b.certificates[0] is that of user a too",
            ),
            (
                "[users.a]\ntoken_files = ['empty']".to_owned(),
                "empty is empty",
            ),
        ] {
            let fault = fault(&text);
            assert!(fault.contains(rule), "{fault}");
        }
    }

    #[test]
    fn large_file_is_refused() {
        let large = "#".repeat(usize::try_from(limits::MAX_AUTH_FILE_BYTES).expect("fits") + 1);
        assert!(fault(&large).contains("longer than"));
    }
}

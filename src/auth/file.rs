//! The file of users, as README describes it: TOML, one table per user and
//! one per issuer of tokens. What is in it is checked here, without looking at
//! the files that it names.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    certificate,
    rights::{Patterns, Readable, Rights},
    section::Section,
    token,
};
use crate::{
    event::{Component, EventType, Pattern, User},
    limits,
    quota::Quota,
};

/// What is wrong with the users, said so that it can be found: file and key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same of this file.
    pub(super) fn of_file(self, file: &std::path::Path) -> Self {
        Self(format!("{}: {}", file.display(), self.0))
    }
}

/// The whole file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) users: BTreeMap<User, Entry>,
    pub(super) issuers: Vec<IssuerEntry>,
}

/// A user.
#[derive(Debug)]
pub(super) struct Entry {
    /// What errors call it.
    pub(super) at: String,
    /// SHA-256 of each token.
    pub(super) tokens: Vec<[u8; 32]>,
    /// Files that hold a token itself.
    pub(super) token_files: Vec<PathBuf>,
    /// Names in certificates.
    pub(super) certificates: Vec<String>,
    pub(super) rights: Rights,
}

/// Who signs tokens.
#[derive(Debug)]
pub(super) struct IssuerEntry {
    pub(super) at: String,
    /// Its claim `iss`.
    pub(super) issuer: String,
    /// One of these must be in `aud`.
    pub(super) audiences: Vec<String>,
    /// The JWKS file.
    pub(super) keys: PathBuf,
    /// Names inside each other with dots between, from the outermost on.
    pub(super) claim: String,
    pub(super) leeway: Duration,
    /// Users by the text of the claim.
    pub(super) users: BTreeMap<String, User>,
    /// A text that is not among them is a user itself.
    pub(super) direct: bool,
}

impl File {
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        let mut file = Section::of(text)?;
        let defaults = quota(file.section("limits")?)?;
        let mut users = BTreeMap::new();
        for (name, section) in file.sections("users")? {
            let user = User::parse(&name)
                .map_err(|invalid| section.fault_of_name(format!("the name {invalid}")))?;
            users.insert(user, entry(section, defaults)?);
        }
        if users.len() > limits::MAX_USERS {
            let rule = format!("must be at most {} tables", limits::MAX_USERS);
            return Err(file.fault("users", rule));
        }
        let mut issuers = Vec::new();
        for (_, section) in file.sections("issuers")? {
            issuers.push(issuer(section)?);
        }
        file.end()?;
        if users.is_empty() {
            return Err(Fault::new(
                "users is missing: without any nobody could call",
            ));
        }
        for issuer in &issuers {
            for (claim, user) in &issuer.users {
                if !users.contains_key(user) {
                    let at = &issuer.at;
                    let text = format!(
                        "{at}.users.{claim:?} names {}, who is no user",
                        user.as_str()
                    );
                    return Err(Fault::new(text));
                }
            }
        }
        Ok(Self { users, issuers })
    }
}

fn entry(mut section: Section, defaults: Quota) -> Result<Entry, Fault> {
    let tokens = section.list("tokens", token::read_hash)?;
    let token_files = section.list("token_files", path)?;
    let certificates = section.list("certificates", certificate::read_name)?;
    let generate = section.list("generate", type_pattern)?;
    let consume = section.list("consume", component_pattern)?;
    let types = section.list("types", type_pattern)?;
    if !consume.is_empty() && types.is_empty() {
        let rule = "is missing: without types nothing that is consumed could be read; \
                    [\"*\"] is all of them";
        return Err(section.fault("types", rule));
    }
    let rights = Rights {
        generate: Patterns::new(generate),
        consume: Patterns::new(consume),
        types: Readable(Patterns::new(types)),
        observe: section.truth("observe")?,
        administer: section.truth("administer")?,
        quota: quota(section.section("limits")?)?.or(defaults),
    };
    let at = section.place();
    section.end()?;
    Ok(Entry {
        at,
        tokens,
        token_files,
        certificates,
        rights,
    })
}

fn issuer(mut section: Section) -> Result<IssuerEntry, Fault> {
    let issuer = section.required("issuer")?;
    let audiences = section.list("audiences", filled)?;
    if audiences.is_empty() {
        let rule = "is missing: a token that was made for somebody else would do";
        return Err(section.fault("audiences", rule));
    }
    let keys = PathBuf::from(section.required("keys")?);
    let claim = section.text("claim")?.unwrap_or_else(|| "sub".to_owned());
    if claim.split('.').any(str::is_empty) {
        return Err(section.fault("claim", "must be like sub or kubernetes.io/x.name"));
    }
    let leeway = section.text("leeway")?.unwrap_or_else(|| "30s".to_owned());
    let leeway = seconds(&leeway).ok_or_else(|| {
        let most = limits::MAX_LEEWAY.as_secs();
        section.fault("leeway", format!("must be from 0s to {most}s"))
    })?;
    let direct = section.truth("direct")?;
    let mut users = BTreeMap::new();
    if let Some(mut mapped) = section.section("users")? {
        for claim in mapped.names() {
            let name = mapped.required(&claim)?;
            let user = User::parse(&name).map_err(|invalid| mapped.fault(&claim, invalid))?;
            users.insert(claim, user);
        }
    }
    if users.is_empty() && !direct {
        let rule = "is missing: nobody's token would do; direct = true takes claims as users";
        return Err(section.fault("users", rule));
    }
    let at = section.place();
    section.end()?;
    Ok(IssuerEntry {
        at,
        issuer,
        audiences,
        keys,
        claim,
        leeway,
        users,
        direct,
    })
}

fn quota(section: Option<Section>) -> Result<Quota, Fault> {
    let Some(mut section) = section else {
        return Ok(Quota::default());
    };
    let quota = Quota {
        calls: section.number("calls")?,
        events: section.number("events")?,
        bytes: section.number("bytes")?,
        streams: section.number("streams")?,
    };
    section.end()?;
    Ok(quota)
}

fn path(text: &str) -> Result<PathBuf, String> {
    filled(text).map(PathBuf::from)
}

fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text.to_owned())
}

fn seconds(text: &str) -> Option<Duration> {
    let count = text.strip_suffix('s')?.parse().ok()?;
    Some(Duration::from_secs(count)).filter(|leeway| *leeway <= limits::MAX_LEEWAY)
}

fn type_pattern(text: &str) -> Result<Pattern, String> {
    pattern(text, |name| EventType::parse(name).is_ok())
        .ok_or_else(|| "must be a type of A-Z and _, up to 16, in which * is any text".to_owned())
}

fn component_pattern(text: &str) -> Result<Pattern, String> {
    pattern(text, |name| Component::parse(name).is_ok()).ok_or_else(|| {
        "must be a component of A-Z, a-z, 0-9 and _, up to 16, in which * is any text".to_owned()
    })
}

/// Names with stars; what is between them must be what names are made of.
fn pattern(text: &str, is_name: impl Fn(&str) -> bool) -> Option<Pattern> {
    let rest = text.replace('*', "");
    let fits = is_name(&rest) || (rest.is_empty() && !text.is_empty());
    fits.then(|| Pattern::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        File::read(text).expect_err(text).to_string()
    }

    #[test]
    fn everything_is_read() {
        let digest = "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1";
        let text = format!(
            "[users.shop]\ntokens = ['sha256:{digest}']\ntoken_files = ['t']\n\
             certificates = ['dns:shop.example']\ngenerate = ['ORDER_*']\n\
             consume = ['SHOP_*', 'LIVE']\ntypes = ['*']\nobserve = true\nadminister = true\n\
             limits = {{ calls = 5, events = 6 }}\n\
             [users.'with space']\n[limits]\nevents = 7\nstreams = 8\n\
             [issuers.i]\nissuer = 'x'\naudiences = ['a']\nkeys = 'k'\nleeway = '0s'\n\
             claim = 'a.b'\ndirect = true\n[issuers.i.users]\n'system:x' = 'shop'"
        );
        let file = File::read(&text).expect("sound");
        let user = |name: &str| User::parse(name).expect("a user");
        let shop = &file.users[&user("shop")];
        assert_eq!((shop.tokens.len(), shop.token_files.len()), (1, 1));
        assert!(shop.rights.generate.allow("ORDER_NEW") && !shop.rights.generate.allow("BILL"));
        assert!(shop.rights.consume.allow("LIVE") && shop.rights.types.allow("x"));
        assert!(shop.rights.observe && shop.rights.administer);
        let quota = Quota {
            calls: Some(5),
            events: Some(6),
            bytes: None,
            streams: Some(8),
        };
        assert_eq!(shop.rights.quota, quota);
        assert_eq!(file.users[&user("with space")].rights.quota.events, Some(7));
        let issuer = &file.issuers[0];
        assert_eq!(issuer.claim, "a.b");
        assert_eq!(issuer.users["system:x"], user("shop"));
    }

    #[test]
    fn faults_name_their_place() {
        let issuer = |more: &str| {
            format!("[users.u]\n[issuers.i]\nissuer = 'x'\naudiences = ['a']\nkeys = 'k'\n{more}")
        };
        for (text, place) in [
            ("x = 1", "x is not known here"),
            ("[users]\nu = 1", "users.u must be a table"),
            ("[users.u]\ntokens = 'a'", "users.u.tokens must be a list"),
            (
                "[users.u]\ntokens = [1]",
                "users.u.tokens[0] must be a text",
            ),
            (
                "[users.u]\nobserve = 'yes'",
                "users.u.observe must be true or false",
            ),
            (
                "[users.u]\nconsume = ['A-B']",
                "users.u.consume[0] must be a component",
            ),
            ("[users.u]\nconsume = ['A']", "users.u.types is missing"),
            (
                "[users.u]\ntypes = ['A', '']",
                "users.u.types[1] must be a type",
            ),
            (
                "[users.u]\ncertificates = ['shop']",
                "users.u.certificates[0] must be subject:",
            ),
            (
                "[users.u.limits]\ncalls = 0",
                "users.u.limits.calls must be a whole",
            ),
            (
                "[users.u.limits]\nrate = 1",
                "users.u.limits.rate is not known",
            ),
            ("[users.\"a:b\"]", "users.\"a:b\": the name must be 1 to 47"),
            (&issuer(""), "issuers.i.users is missing"),
            (&issuer("leeway = '1h'"), "issuers.i.leeway must be"),
            (&issuer("claim = 'a..b'"), "issuers.i.claim must be"),
            (
                &issuer("[issuers.i.users]\nx = 'v'"),
                "issuers.i.users.\"x\" names v",
            ),
            (
                &issuer("[issuers.i.users]\nx = 'a:b'"),
                "issuers.i.users.x must be 1",
            ),
            ("[users.u]\n[issuers.i]", "issuers.i.issuer is missing"),
            (
                "[users.u]\n[issuers.i]\nissuer = 'x'",
                "issuers.i.audiences is missing",
            ),
        ] {
            let fault = fault(text);
            assert!(fault.starts_with(place), "{text}: {fault}");
        }
    }
}

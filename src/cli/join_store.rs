//! `xds-sync join --store`: lets this node follow a store.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use ssh_key::PublicKey;

use super::steps::Steps;
use super::{Context, agent, exit};
use crate::durable::{self, Options};
use crate::enroll::{join, key, waiting};
use crate::fetch::{self, SMALL, Trust};
use crate::follow::Config;
use crate::host;
use crate::logging;
use crate::model::escape::clean;

/// What is asked for.
pub(super) struct Follow<'a> {
    /// Where the store is.
    pub(super) url: &'a str,
    /// This node's name on Main; none: the host's.
    pub(super) name: Option<&'a str>,
    pub(super) labels: &'a [String],
    /// Whose certificate the hub has, if that was said.
    pub(super) cacert: Option<&'a Path>,
}

/// Pins Main's key, makes this node's own, and writes down what is followed; prints what Main is to be told.
pub(super) fn run(context: &Context, follow: &Follow<'_>, main: &PublicKey) -> anyhow::Result<u8> {
    let file = agent::node_config();
    let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let name = follow.name.map_or_else(short_name, str::to_owned);
    let (main_key, identity) = (dir.join("main.pub"), dir.join("node_key"));
    let tables = tables(follow, &name, &main_key, &identity);
    // What cannot be followed is refused before anything is changed.
    let wanted = Config::of_text(&file, &tables)?;
    let known = Config::read(&file)?;
    if let Some(known) = &known {
        ensure!(
            (&known.store.url, &known.name) == (&wanted.store.url, &wanted.name),
            "{} follows {} as {} already: take [store] and [follow] out of it first",
            file.display(),
            known.store.url,
            known.name
        );
    }
    let known = known.unwrap_or(wanted);
    logging::use_syslog(logging::DEFAULT_FACILITY);
    Steps::run(context, "join", |steps| {
        pin(main, &known.main_key, steps)?;
        let own = key::ensure(&known.identity, &name, &mut host::random())?;
        let which = format!("{} ({} {})", known.identity.display(), own.algorithm, own.fingerprint);
        steps.ensured("own key", own.made, &which);
        let made = join::make_node_file(&file)?;
        steps.ensured("accepts", made, &file.display().to_string());
        append(&file, &tables, steps)?;
        let public = key::public_path(&known.identity);
        let public =
            std::fs::read_to_string(&public).with_context(|| format!("reading {}", public.display()))?;
        let public = PublicKey::from_openssh(public.trim()).context("reading this node's public key")?;
        tell_main(follow, &known, &public, &own.fingerprint, steps)?;
        if known.store.url.starts_with("https://") && known.store.ca.is_none() {
            let host = Url::parse(&known.store.url).ok().and_then(|url| url.host_str().map(str::to_owned));
            steps.note(
                "hub",
                &format!(
                    "unless an authority that this host trusts has signed its certificate, bring it here:\n\n    \
                     scp root@{}:/var/lib/xds-sync-hub/hub/certificate.pem /etc/xds-sync/hub.pem\n\n(/var/lib/xds-sync/hub/… where \
                     root runs `xds-sync serve`), and add to [store] in {}: ca = \"/etc/xds-sync/hub.pem\"",
                    clean(&host.unwrap_or_else(|| "MAIN".to_owned())),
                    file.display()
                ),
            );
        }
        Ok(exit::DONE)
    })
}

/// Hands this node's key in at Main's hub, where it follows that one; else, or where that fails, says what Main's configuration
/// is to have.
fn tell_main(
    follow: &Follow<'_>,
    known: &Config,
    public: &PublicKey,
    fingerprint: &str,
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let (name, public) = (&known.name, waiting::plain(public)?);
    if known.store.url.starts_with("https://") {
        match hand_in(&known.store.url, name, &public) {
            Ok(Answer::Waits) => {
                let labels =
                    follow.labels.iter().map(|label| format!(" --label {label}")).collect::<String>();
                steps.note(
                    "main",
                    &format!(
                        "has this node's key, and is to approve it: there run\n\n    xds-sync nodes approve {name} --key {fingerprint}{labels}\n\n\
                         and publish; then here: systemctl enable --now xds-sync-follow"
                    ),
                );
                return Ok(());
            }
            Ok(Answer::Approved) => {
                steps.note("main", "has approved this node: systemctl enable --now xds-sync-follow");
                return Ok(());
            }
            Err(error) => steps.note("main", &format!("was not told: {}", clean(&exit::line_of(&error)))),
        }
    }
    let labels = match follow.labels {
        [] => String::new(),
        labels => format!("labels = {}\n", list(labels)),
    };
    steps.note(
        "main",
        &format!(
            "add this to its configuration, and publish; then here: systemctl enable --now xds-sync-follow\n\n\
             [[node]]\nname = \"{name}\"\nvia = \"store\"\nkey = \"{public}\"\n{labels}"
        ),
    );
    Ok(())
}

/// What the hub has said.
enum Answer {
    Waits,
    Approved,
}

/// Whatever certificate the hub has: a key that somebody has exchanged on its way has another fingerprint, which is compared.
fn hand_in(store: &str, name: &str, public: &str) -> anyhow::Result<Answer> {
    let url = Url::parse(&format!("{store}/v1/waiting/{name}")).context(store.to_owned())?;
    let (status, answer) = fetch::post(&url, public.as_bytes().to_vec(), &Trust::Anybody, SMALL)
        .with_context(|| url.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let answer = answer.lines().next().unwrap_or_default();
    match (status.as_u16(), answer) {
        (200, "approved") => Ok(Answer::Approved),
        (200 | 201, _) => Ok(Answer::Waits),
        (409, _) => bail!(
            "{answer}. If that is not an earlier key of this node, somebody else has asked under its name: on Main `xds-sync nodes \
             approve` shows who waits, and `xds-sync nodes approve {name} --reject` sends it away; then run this again"
        ),
        (404 | 405, _) => bail!("{url}: there is no hub that takes keys"),
        _ => bail!("{url}: the hub answers {status}: {answer}"),
    }
}

/// The host's name, without the domain.
fn short_name() -> String {
    let name = host::name();
    name.split('.').next().unwrap_or(&name).to_owned()
}

/// The key by which all that comes from the store is believed.
fn pin(main: &PublicKey, path: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let text = format!("{}\n", main.to_openssh().context("writing Main's key as text")?);
    let shown = path.display();
    let before = durable::read(path).with_context(|| format!("reading {shown}"))?;
    let is_same = before.as_ref().is_some_and(|before| {
        PublicKey::from_openssh(&String::from_utf8_lossy(before))
            .is_ok_and(|key| key.key_data() == main.key_data())
    });
    if !is_same {
        durable::make_dir(path.parent().unwrap_or(Path::new("/")), 0o755)
            .and_then(|()| durable::replace(path, text.as_bytes(), Options::PUBLIC))
            .with_context(|| format!("writing {shown}"))?;
    }
    let fingerprint = main.fingerprint(ssh_key::HashAlg::Sha256);
    match before {
        Some(_) if !is_same => steps.changed("main key", &format!("replaced {shown} ({fingerprint})")),
        before => steps.ensured("main key", before.is_none(), &format!("{shown} ({fingerprint})")),
    }
    Ok(())
}

/// What node.toml is to say.
fn tables(follow: &Follow<'_>, name: &str, main_key: &Path, identity: &Path) -> String {
    let labels = match follow.labels {
        [] => String::new(),
        labels => format!("labels = {}\n", list(labels)),
    };
    let ca = follow.cacert.filter(|_| follow.url.starts_with("https://"));
    let ca = ca.map(|file| format!("ca = {:?}\n", file.display().to_string())).unwrap_or_default();
    format!(
        "\n[store]\nurl = {:?}\n{ca}\n[follow]\nname = {name:?}\nmain_key = {:?}\nidentity = {:?}\n{labels}",
        follow.url,
        main_key.display().to_string(),
        identity.display().to_string(),
    )
}

fn list(labels: &[String]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| format!("{label:?}")).collect();
    format!("[{}]", labels.join(", "))
}

fn append(file: &Path, tables: &str, steps: &mut Steps) -> anyhow::Result<()> {
    let shown = file.display();
    if Config::read(file)?.is_some() {
        steps.note("follows", &format!("kept [store] and [follow] in {shown}"));
        return Ok(());
    }
    let mut text = durable::read(file).with_context(|| format!("reading {shown}"))?.unwrap_or_default();
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(tables.as_bytes());
    durable::replace(file, &text, Options::PUBLIC).with_context(|| format!("writing {shown}"))?;
    steps.changed("follows", &format!("added [store] and [follow] to {shown}"));
    Ok(())
}

//! `xds-sync join`: lets a Main run the agent on this node.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use ssh_key::{Fingerprint, HashAlg, PublicKey};

use super::exit::StepContext as _;
use super::join_store::{self, Follow};
use super::steps::Steps;
use super::{Context, agent, exit};
use crate::enroll::authorized_keys::{self, Changed, KeyLine};
use crate::enroll::join::{self, Main};
use crate::enroll::sshd::{self, Visitor};
use crate::fetch::{SMALL, Trust, Unanswered, Untrusted};
use crate::host;
use crate::logging;
use crate::model::escape::clean;
use crate::report::exit::PARTIAL;

const EXAMPLES: &str = "\
Examples:
  xds-sync join xivo.example.org --fingerprint SHA256:…
                  as `xds-sync init` on Main prints it
  xds-sync join xivo.example.org:8443 --cacert ca.pem
                  this authority signed its certificate
  xds-sync join 10.0.0.10 --fingerprint SHA256:… --from 10.0.0.10
                  the key may be used from there only
  xds-sync join --store file:///srv/xds-store --key main.pub
                  follow a store: makes this node's key, and prints
                  what Main's configuration is to say of it
  xds-sync join xivo.example.org:8443 --fingerprint SHA256:… \\
                --store https://xivo.example.org:8443/store
                  follow Main's hub: hands in this node's key there,
                  for `xds-sync nodes approve` on Main";

/// On a node: fetch Main's public key, and let Main run the agent here
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Main's HOST, HOST:PORT or https URL; with --store and --key it need not be reached
    #[arg(required_unless_present_all = ["store", "key"])]
    main: Option<String>,
    /// Fingerprint of Main's ssh key; with it the TLS certificate need not be trusted
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Option<String>,
    /// Trust the certificates in this file (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Main's public key itself, for nodes that cannot fetch it; `-` reads it from stdin
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    key: Option<PathBuf>,
    /// Trust any certificate, and ask whether the key is the right one
    #[arg(long, conflicts_with_all = ["fingerprint", "cacert"])]
    insecure: bool,
    /// Accept Main from these hosts only: names, addresses or CIDR ranges, separated by commas
    #[arg(long, value_name = "PATTERN", conflicts_with = "store")]
    from: Option<String>,
    /// Follow this store, instead of letting Main in: nothing is read there yet
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// With --store: this node's name on Main [default: the host's]
    #[arg(long, value_name = "NAME", requires = "store")]
    name: Option<String>,
    /// With --store: take directories with these labels
    #[arg(long = "label", value_name = "LABEL", num_args = 1.., requires = "store")]
    labels: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let main = args.main.as_deref().map(Main::parse).transpose()?;
    let expected = args.fingerprint.as_deref().map(join::read_fingerprint).transpose()?;
    ensure!(
        !args.insecure || (io::stdin().is_terminal() && io::stderr().is_terminal()),
        "--insecure asks on a terminal, and this is not one; give --fingerprint, as `xds-sync init` on Main prints it"
    );
    ensure!(
        args.key.is_none() || args.cacert.is_none() || args.store.is_some(),
        "--cacert says whom to believe where something is fetched; with --key nothing is"
    );
    let trust = match &args.cacert {
        Some(file) => Trust::File(file.clone()),
        None if expected.is_some() || args.insecure => Trust::Anybody,
        None => Trust::System,
    };
    let home = host::home().context("there is no home directory for authorized_keys: HOME is not set")?;
    let key = match (&args.key, &main) {
        (Some(file), _) => key_in(file, expected.as_ref())?,
        (None, Some(main)) => {
            join::fetch_key(main, &trust, expected.as_ref(), SMALL).map_err(|error| advised(error, main))?
        }
        (None, None) => bail!("give MAIN, or --key with its public key"),
    };
    let fingerprint = key.fingerprint(HashAlg::Sha256);
    if args.insecure && !is_confirmed(context, &format!("{} {fingerprint}", key.algorithm()))? {
        bail!("not confirmed; nothing was changed");
    }
    if let Some(url) = &args.store {
        // A service that follows has another working directory.
        let cacert = args.cacert.as_ref().map(std::path::absolute).transpose()?;
        let follow =
            Follow { url, name: args.name.as_deref(), labels: &args.labels, cacert: cacert.as_deref() };
        return join_store::run(context, &follow, &key);
    }
    let main = main.context("give MAIN")?;
    let program = host::program().context("looking for this program")?;
    let entry =
        KeyLine { key: key.key_data().clone(), program, from: args.from.clone(), main: main.name.clone() };
    // What cannot be written in a line is refused before anything is changed.
    entry.line()?;

    logging::use_syslog(logging::DEFAULT_FACILITY);
    Steps::run(context, "join", |steps| {
        steps.note("key", &format!("{} {fingerprint} of {}", key.algorithm(), main.name));
        // First what restricts Main, then what lets it in.
        accept(steps).step("accepts")?;
        let authorized_keys = authorized_keys::path_below(&home);
        log_in(&entry, &authorized_keys, steps).step("login")?;
        ask_sshd(&main, &key, &home, &authorized_keys, steps);
        Ok(if steps.has_failed() { PARTIAL } else { exit::DONE })
    })
}

/// Makes sure that there is a file that says what Main may do here.
fn accept(steps: &mut Steps) -> anyhow::Result<()> {
    let node_file = agent::node_config();
    let made = join::make_node_file(&node_file)?;
    steps.ensured("accepts", made, &node_file.display().to_string());
    Ok(())
}

/// Lets Main log in, for the agent alone.
fn log_in(entry: &KeyLine, authorized_keys: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let what = format!("{}: {} may run the agent here", authorized_keys.display(), entry.main);
    let changed = authorized_keys::change(authorized_keys, |before| authorized_keys::with(before, entry))?;
    if changed != Changed::Kept {
        let fingerprint = entry.key.fingerprint(HashAlg::Sha256);
        log::info!("auth: key: {} was let in with {fingerprint}", clean(&entry.main));
    }
    match changed {
        Changed::Made => steps.ensured("login", true, &what),
        Changed::Replaced => steps.changed("login", &format!("written {what}")),
        Changed::Kept => steps.ensured("login", false, &what),
    }
    Ok(())
}

/// Says what keeps Main out in spite of the line that lets it in.
fn ask_sshd(main: &Main, key: &PublicKey, home: &Path, authorized_keys: &Path, steps: &mut Steps) {
    let Some((user, groups)) = host::user() else { return };
    let host = main.host();
    let visitor = Visitor {
        user: &user,
        groups,
        home,
        host: &host,
        address: host::lookup(&host).first().map(ToString::to_string),
        authorized_keys,
        algorithm: key.algorithm().to_string(),
    };
    match sshd::obstacles(&visitor) {
        Ok(obstacles) => obstacles.iter().for_each(|obstacle| steps.wrong("sshd", &clean(obstacle))),
        Err(error) => {
            let text = format!("could not be asked whether it lets Main in: {}", exit::line_of(&error));
            steps.note("sshd", &text);
        }
    }
}

/// The public key in a file that somebody brought here.
fn key_in(file: &Path, expected: Option<&Fingerprint>) -> anyhow::Result<PublicKey> {
    let mut text = Vec::new();
    let (name, read) = match file.to_str() {
        Some("-") => ("stdin".to_owned(), io::stdin().lock().take(SMALL.body).read_to_end(&mut text)),
        _ => {
            let read = File::open(file).and_then(|file| file.take(SMALL.body).read_to_end(&mut text));
            (file.display().to_string(), read)
        }
    };
    read.with_context(|| format!("reading {name}"))?;
    join::check_key(&name, &text, expected)
}

/// Says what helps where the certificate is not trusted, or nobody serves the key.
fn advised(error: anyhow::Error, main: &Main) -> anyhow::Error {
    if error.is::<Untrusted>() {
        return anyhow::anyhow!(
            "{error:#}; give --fingerprint, as `xds-sync init` on Main prints it, or --cacert FILE"
        );
    }
    if !error.is::<Unanswered>() {
        return error;
    }
    let port = match main.url.port() {
        Some(port) => format!("nobody answers on port {port}"),
        None => "nobody answers on port 443, which is asked where none is given".to_owned(),
    };
    anyhow::anyhow!(
        "{error:#}; {port}: on Main start the hub with `systemctl start xds-sync-serve`, and take the line that `xds-sync \
         init` prints there, with its port (8443 unless hub.listen says otherwise)"
    )
}

fn is_confirmed(context: &Context, key: &str) -> anyhow::Result<bool> {
    let question =
        format!("Main's key is {key}\nDoes `xds-sync init` on Main print the same? Then type yes:");
    for line in question.lines() {
        context.ui.plain(&clean(line));
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(answer.trim() == "yes")
}

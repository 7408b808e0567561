//! `xds-sync store`: the store, and the lease by which one Main alone publishes in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;
use serde::Serialize;

use super::publish::{Store, tell_holder};
use super::{Context, exit, load};
use crate::host;
use crate::logging;
use crate::model::Size;
use crate::model::escape::clean;
use crate::record;
use crate::report::exit::{ALL_LOST, TAMPERED};
use crate::report::words;
use crate::site::{Access, Locking, Site};
use crate::store::head::Head;
use crate::store::holder::{Holder, Record};
use crate::store::{chain, check, gc, names, rollback, verify};

const EXAMPLES: &str = "\
Examples:
  xds-sync store init           make the store, take its first lease
  xds-sync store check          can it do what is needed of it?
  xds-sync store list           what was published, newest first
  xds-sync store verify         read every object and signature
  xds-sync store rollback 41    publish once more what 41 was
  xds-sync store gc             remove what nobody needs
  xds-sync store release        on the old Main: give up the lease
  xds-sync store claim          on the new one: take it

Exit codes:
  0  done
  4  the lease is another Main's
 41  there is no store, or it refuses
 50  the store was tampered with
 75  another run is going on";

/// Make, look after and hand over the store in which Main publishes
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the store and take its first lease
    #[command(after_help = EXAMPLES)]
    Init,
    /// Take the lease, which another Main has released
    #[command(after_help = EXAMPLES)]
    Claim {
        /// Take it from this Main, which is gone for good
        #[arg(long, value_name = "NAME")]
        force: Option<String>,
    },
    /// Give up the lease, so that another Main can claim it
    #[command(after_help = EXAMPLES)]
    Release,
    /// Try whether the store can do what is needed of it
    #[command(after_help = EXAMPLES)]
    Check,
    /// Read every object and every signature
    #[command(after_help = EXAMPLES)]
    Verify,
    /// List publications, newest first
    #[command(after_help = EXAMPLES)]
    List,
    /// Publish an older publication anew; two-way directories stay
    #[command(after_help = EXAMPLES)]
    Rollback {
        /// Its number
        seq: u64,
    },
    /// Remove what nobody needs, a day after it was found
    #[command(after_help = EXAMPLES)]
    Gc,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    perform(context, args).or_else(|error| tell_holder(context, args.json, error))
}

fn perform(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let writes = !matches!(args.action, Action::Check | Action::Verify | Action::List);
    let (locking, access) = match writes {
        true => (Locking::Try, Access::Change),
        false => (Locking::Unlocked, Access::ReadOnly),
    };
    let config = load::config(context)?;
    if writes {
        logging::use_syslog(&config.sync.syslog_facility);
    }
    let site = Site::open(config, locking, access, load::services())?;
    let holder = site.store()?;
    let record = site.store_record()?;
    let record = record.as_ref();
    let printer = Printer { context, json: args.json, name: &holder.name };
    let held = |record: Record, said: &str| {
        site.save_store_record(&record)?;
        record::lease(site.state());
        log::info!("{said}");
        printer.lease(&record, said)
    };
    match &args.action {
        Action::Init => held(holder.init(&host::ulid(), record)?, "this Main publishes in the store"),
        Action::Claim { force } => held(holder.claim(record, force.as_deref())?, "this Main holds the lease"),
        Action::Release => {
            held(holder.release(record)?, "the lease is released: this Main publishes nothing any more")
        }
        Action::Check => printer.check(&holder),
        Action::Verify => printer.verify(&holder),
        Action::List => printer.list(&holder, record),
        Action::Rollback { seq } => {
            let record = rollback::rollback(&holder, holder.standing(record)?, *seq)?;
            let said = format!(
                "publication {} is what {seq} was; nothing new is published until you run `xds-sync publish`",
                record.seq
            );
            held(record, &said)
        }
        Action::Gc => {
            let collected = gc::collect(&holder, &holder.standing(record)?)?;
            let said = format!(
                "{} removed, {} to be removed after a day; {}",
                words::count(collected.deleted, "object", "objects"),
                collected.condemned,
                words::count(collected.heads, "publication stays", "publications stay")
            );
            log::info!("{said}");
            let value = serde_json::json!({"gc": {
                "deleted": collected.deleted, "condemned": collected.condemned, "publications": collected.heads
            }});
            printer.print(&value, &(said + "\n"))
        }
    }
}

struct Printer<'a> {
    context: &'a Context,
    json: bool,
    name: &'a str,
}

#[derive(Serialize)]
struct Publication {
    seq: u64,
    epoch: u64,
    time: String,
    main: String,
    reason: String,
    files: u64,
    bytes: u64,
}

impl Printer<'_> {
    fn print(&self, value: &impl Serialize, text: &str) -> anyhow::Result<u8> {
        match self.json {
            true => self.context.ui.result((serde_json::to_string(value)? + "\n").as_bytes())?,
            false => self.context.ui.result(text.as_bytes())?,
        }
        Ok(exit::DONE)
    }

    fn lease(&self, record: &Record, said: &str) -> anyhow::Result<u8> {
        let store = Store { holder: self.name, epoch: Some(record.epoch), seq: Some(record.seq) };
        let text = format!("{said} (lease {}, publication {})\n", record.epoch, record.seq);
        self.print(&BTreeMap::from([("store", store)]), &text)
    }

    fn check(&self, holder: &Holder) -> anyhow::Result<u8> {
        let tried = check::check(&*holder.objects, &host::ulid())?;
        let mut text = String::new();
        for one in &tried {
            // Writing to a String cannot fail.
            let _ = match &one.wrong {
                None => writeln!(text, "{}: good", one.what),
                Some(why) => writeln!(text, "{}: {why}", one.what),
            };
        }
        let good = tried.iter().all(|one| one.wrong.is_none());
        let tried: Vec<_> = tried
            .iter()
            .map(
                |one| serde_json::json!({"what": one.what, "good": one.wrong.is_none(), "detail": one.wrong}),
            )
            .collect();
        self.print(&serde_json::json!({"check": tried}), &text)?;
        Ok(if good { exit::DONE } else { ALL_LOST })
    }

    fn verify(&self, holder: &Holder) -> anyhow::Result<u8> {
        let found = verify::verify(&*holder.objects, &[holder.own_key()?])?;
        let text = format!(
            "{} and {} with {} were read; {} wrong\n",
            words::count(found.heads, "publication", "publications"),
            words::count(found.objects, "object", "objects"),
            Size(found.bytes),
            if found.wrong.is_empty() {
                "nothing is".to_owned()
            } else {
                format!("{} are", found.wrong.len())
            }
        );
        if !self.json {
            found.wrong.iter().for_each(|wrong| self.context.ui.error(&clean(wrong)));
        }
        let value = serde_json::json!({"verify": {
            "publications": found.heads, "objects": found.objects, "bytes": found.bytes, "wrong": found.wrong
        }});
        self.print(&value, &text)?;
        Ok(if found.wrong.is_empty() { exit::DONE } else { TAMPERED })
    }

    fn list(&self, holder: &Holder, record: Option<&Record>) -> anyhow::Result<u8> {
        let standing = holder.standing(record)?;
        let mut publications = Vec::new();
        for name in holder.objects.list(names::HEADS)?.iter().rev() {
            let Some(seq) = names::seq_in(name) else { continue };
            if let Some((head, _)) = chain::head(&*holder.objects, &standing.keys, seq)? {
                publications.push(listed(&head));
            }
        }
        let lease = &standing.lease;
        let mut text = format!("lease {}: {} since {}\n", lease.epoch, lease.main, lease.time);
        for one in &publications {
            let files = words::count(one.files, "file", "files");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}  {}  {}  {}  {files}, {}",
                one.seq,
                one.time,
                one.main,
                one.reason,
                Size(one.bytes)
            );
        }
        let store = Store { holder: &lease.main, epoch: Some(lease.epoch), seq: Some(standing.tip.0) };
        self.print(&serde_json::json!({"store": store, "publications": publications}), &text)
    }
}

fn listed(head: &Head) -> Publication {
    let sum = |of: fn(&crate::store::head::HeadDirectory) -> u64| head.directories.iter().map(of).sum();
    Publication {
        seq: head.seq,
        epoch: head.epoch,
        time: head.time.clone(),
        main: head.main.clone(),
        reason: head.reason.clone(),
        files: sum(|directory| directory.files),
        bytes: sum(|directory| directory.bytes),
    }
}

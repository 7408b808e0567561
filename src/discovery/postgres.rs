//! Nodes in a PostgreSQL database, such as XiVO's.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use futures_util::TryStreamExt as _;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::LIMIT;
use super::rows::{MOST, RawAnswer, Row};
use crate::config::{Postgres, TlsTrust};
use crate::fetch::{self, Trust};

pub(super) fn ask(source: &Postgres, timeout: Duration) -> anyhow::Result<RawAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_in = Cell::new(false);
    let answer =
        runtime.block_on(async { tokio::time::timeout(timeout, query(source, timeout, &is_in)).await });
    // Dropping it would wait for a name lookup that is never answered.
    runtime.shutdown_background();
    match answer {
        Ok(answer) => answer,
        Err(_) if is_in.get() => bail!("the query was not answered within {timeout:?}"),
        Err(_) => bail!("it did not let us in within {timeout:?}"),
    }
}

/// Sets `is_in` once the server has accepted the login.
async fn query(source: &Postgres, timeout: Duration, is_in: &Cell<bool>) -> anyhow::Result<RawAnswer> {
    let connection = &source.connection;
    let trust = match &connection.trust {
        TlsTrust::Anybody => Trust::Anybody,
        TlsTrust::System => Trust::System,
        TlsTrust::File(file) => Trust::File(file.clone()),
    };
    let tls = MakeRustlsConnect::new(fetch::tls(&trust)?);
    let (client, wire) = connection.to.connect(tls).await.map_err(|error| explained(&error))?;
    is_in.set(true);
    tokio::spawn(wire);
    // The server must also give up a query that times out here, and a wrong query must not change anything.
    let careful = format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET statement_timeout = {}",
        timeout.as_millis()
    );
    client.batch_execute(&careful).await.map_err(|error| explained(&error))?;
    // As text, whatever the columns' types are: names, inet, varchar.
    let in_query = |error| explained(&error).context("the query");
    let answer = client.simple_query_raw(&source.query).await.map_err(in_query)?;
    let mut answer = std::pin::pin!(answer);
    let mut rows = Vec::new();
    let mut bytes = 0;
    // Row by row: what the server sends beyond what can be meant is not read.
    while let Some(message) = answer.try_next().await.map_err(in_query)? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        ensure!(rows.len() < MOST, "it names more than {MOST} nodes, which cannot be meant");
        bytes += (0..row.len()).filter_map(|column| row.try_get(column).ok()?).map(str::len).sum::<usize>();
        ensure!(bytes as u64 <= LIMIT, "it is longer than {LIMIT} bytes");
        rows.push(read(rows.len() + 1, &row)?);
    }
    Ok(RawAnswer { rows, dropped: Vec::new() })
}

fn read(number: usize, row: &SimpleQueryRow) -> anyhow::Result<Row> {
    if row.len() != 2 {
        bail!("the query gives {} columns, and not two: name and address", row.len());
    }
    let text = |column| row.try_get(column).ok().flatten().map(str::to_owned);
    Ok(Row { at: format!("row {number}"), name: text(0), address: text(1), ..Row::default() })
}

/// The server's own words, or what went wrong on the way to it.
fn explained(error: &tokio_postgres::Error) -> anyhow::Error {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => anyhow!("{}: {}", said.severity(), said.message()),
        (None, Some(cause)) => anyhow!("{error}: {cause}"),
        (None, None) => anyhow!("{error}"),
    }
}

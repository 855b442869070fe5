//! Work that is counted by someone who does not take part in it.
//!
//! Workers claim the orders of a shop, bill them, and delete them. An auditor counts what went by,
//! without touching a thing: listing with `include_claimed=true` it sees each order also while a
//! worker holds it, and with its `next` link it sees each just once. Orders that were deleted before
//! the auditor came are gone, so here the workers bill a batch, and delete it when the auditor has
//! seen it. In the end both books have to agree.
//!
//! ```text
//! cargo run --release -p marconi-server --example metering
//! ```
//!
//! It starts a server in this process. To use one that runs, give `-- --url http://127.0.0.1:8888`.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Client, Result, Server};

/// Orders by customer and amount, a batch a row.
const BATCHES: [[(&str, u64); 4]; 3] = [
    [("gil", 12), ("hana", 7), ("gil", 3), ("ivo", 40)],
    [("hana", 5), ("hana", 5), ("ivo", 1), ("gil", 30)],
    [("ivo", 9), ("gil", 2), ("hana", 11), ("ivo", 6)],
];
const WORKERS: [&str; 2] = ["jo", "kim"];
const ORDERS_PER_CLAIM: usize = 2;

/// What each customer owes.
type Book = BTreeMap<String, u64>;

fn main() -> Result<()> {
    let server = Server::from_arguments()?;
    let (shop, workers, auditor) = (server.client(1), server.client(2), server.client(3));
    shop.send("DELETE", "/v1/queues/orders", Value::Null)?;
    shop.send("PUT", "/v1/queues/orders", Value::Null)?;

    let (mut billed, mut audited) = (Book::new(), Book::new());
    let mut next = "/v1/queues/orders/messages?include_claimed=true".to_owned();
    for batch in BATCHES {
        let orders = batch.map(|(customer, amount)| {
            json!({"ttl": 300, "body": {"customer": customer, "amount": amount}})
        });
        shop.send("POST", "/v1/queues/orders/messages", json!(orders))?;
        println!("shop     posts {} orders", batch.len());

        let mut done = Vec::new();
        for worker in WORKERS {
            done.extend(bill(worker, &workers, &mut billed)?);
        }
        let (status, _) = auditor.send("GET", "/v1/queues/orders/messages", Value::Null)?;
        if status != 204 {
            return Err("an order is seen though all are claimed".into());
        }
        let count = audit(&auditor, &mut next, &mut audited)?;
        println!("auditor  sees nothing in a plain list, and {count} orders with the claimed ones");
        for href in done {
            workers.send("DELETE", &href, Value::Null)?;
        }
        println!("workers  delete what they billed");
    }

    for (customer, amount) in &audited {
        println!("{customer:8} owes {amount}");
    }
    if billed != audited {
        return Err(format!("the books differ: {billed:?} and {audited:?}").into());
    }
    let all: u64 = BATCHES.iter().flatten().map(|&(_, amount)| amount).sum();
    if audited.values().sum::<u64>() != all {
        return Err(format!("orders of {all} were posted").into());
    }
    println!("both books agree on {all}");
    Ok(())
}

/// Claims orders for a minute and books them. Returns the addresses by which to delete them.
fn bill(worker: &str, client: &Client, book: &mut Book) -> Result<Vec<String>> {
    let target = format!("/v1/queues/orders/claims?limit={ORDERS_PER_CLAIM}");
    let (_, orders) = client.send("POST", &target, json!({"ttl": 60, "grace": 60}))?;
    let mut hrefs = Vec::new();
    for order in orders.as_array().ok_or("nothing to claim")? {
        enter(book, order)?;
        hrefs.push(order["href"].as_str().ok_or("no address")?.to_owned());
    }
    println!("{worker:8} claims and bills {}", hrefs.len());
    Ok(hrefs)
}

/// Books what came since the last time, claimed or not; returns how many orders that were.
fn audit(client: &Client, next: &mut String, book: &mut Book) -> Result<usize> {
    let mut count = 0;
    loop {
        let (_, page) = client.send("GET", next, Value::Null)?;
        let Some(orders) = page["messages"].as_array() else { return Ok(count) };
        for order in orders {
            enter(book, order)?;
            count += 1;
        }
        *next = page["links"][0]["href"].as_str().ok_or("no next link")?.to_owned();
    }
}

fn enter(book: &mut Book, order: &Value) -> Result<()> {
    let customer = order["body"]["customer"].as_str().ok_or("an order has a customer")?;
    let amount = order["body"]["amount"].as_u64().ok_or("an order has an amount")?;
    *book.entry(customer.to_owned()).or_default() += amount;
    Ok(())
}

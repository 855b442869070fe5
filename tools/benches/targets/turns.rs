//! Several servers loaded in turn, each a little at a time: one behind the other they would be compared at two moments
//! of the machine. Knows no targets.

use crate::conversation::Conversation;
use crate::figures::Round;
use crate::load::{Outcome, Plan};
use crate::server::Server;
use crate::site::Site;
use std::io;

/// Turns of each.
const TURNS: usize = 5;

/// A server, and how it is loaded.
pub(crate) struct Contestant<'a> {
    figure: String,
    server: &'a Server,
    talk: Box<dyn Fn(usize) -> Box<dyn Conversation> + 'a>,
    rate: fn(&Outcome) -> f64,
}

impl<'a> Contestant<'a> {
    /// One whose rate is put down as `figure`; `talk` makes what the connection of a number says.
    pub(crate) fn new<C: Conversation + 'static>(
        figure: String,
        server: &'a Server,
        rate: fn(&Outcome) -> f64,
        talk: impl Fn(usize) -> C + 'a,
    ) -> Contestant<'a> {
        let talk = Box::new(move |number| Box::new(talk(number)) as Box<dyn Conversation>);
        Contestant { figure, server, talk, rate }
    }
}

/// The rate of each over so many connections: all that was done in its turns, which together take a cell's time.
///
/// # Errors
/// When a request fails.
pub(crate) fn in_turns(
    site: &Site,
    connections: usize,
    contestants: &[Contestant<'_>],
    round: &mut Round,
) -> io::Result<()> {
    let plan = Plan::closed(site.time / TURNS as u32);
    // What was done, what it took, and what it took of the load's core.
    let mut sums = vec![[0.0; 3]; contestants.len()];
    for turn in 0..TURNS {
        for place in 0..contestants.len() {
            let place = (turn + place) % contestants.len();
            let Contestant { server, talk, rate, .. } = &contestants[place];
            let talks = (0..connections).map(talk).collect();
            let outcome = site.load_talks(server.address, talks, plan)?;
            let seconds = outcome.seconds;
            let now = [rate(&outcome) * seconds, seconds, outcome.busy * seconds];
            sums[place].iter_mut().zip(now).for_each(|(sum, now)| *sum += now);
        }
    }
    for (Contestant { figure, .. }, [done, seconds, busy]) in contestants.iter().zip(sums) {
        round.put(figure, done / seconds);
        round.note(&format!("load busy, {figure}"), busy / seconds);
    }
    Ok(())
}

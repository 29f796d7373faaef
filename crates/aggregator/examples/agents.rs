//! What the classifier makes of agents: `cargo run --release -p aggregator --example agents < FILE`,
//! one agent a line, gives class, name, operator and purpose of each, with tabs between; with
//! `--bench` how long one takes on average, uncached, beside a plain look for a newline.
//!
//! `cargo xtask bots check` runs it on the test lists of other projects.

use std::{
    hint::black_box,
    io::{self, BufWriter, Read, Write},
    time::Instant,
};

use aggregator::bots::{Class, Classifier};

fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let agents: Vec<&str> = text.lines().collect();
    if std::env::args().any(|arg| arg == "--bench") {
        bench(&agents);
        return Ok(());
    }
    let classifier = Classifier::shared();
    let mut out = BufWriter::new(io::stdout().lock());
    for agent in agents {
        match classifier.classify(agent) {
            Class::Human => writeln!(out, "human\t\t\t")?,
            Class::Unknown => writeln!(out, "unknown\t\t\t")?,
            Class::Empty => writeln!(out, "empty\t\t\t")?,
            Class::Bot(id) => {
                let bot = classifier.bot(id);
                let operator = bot.operator.as_deref().unwrap_or_default();
                writeln!(out, "bot\t{}\t{operator}\t{}", bot.name, bot.purpose)?;
            }
        }
    }
    out.flush()
}

/// The best of some rounds: what else the machine does only makes them slower.
fn bench(agents: &[&str]) {
    let begin = Instant::now();
    let classifier = Classifier::shared();
    let made = begin.elapsed();
    let best = |work: &dyn Fn(&str)| {
        let rounds = (0..7).map(|_| {
            let begin = Instant::now();
            agents.iter().for_each(|agent| work(agent));
            begin.elapsed()
        });
        rounds.min().unwrap_or_default().as_secs_f64() * 1e9 / agents.len().max(1) as f64
    };
    let classify = best(&|agent| {
        black_box(classifier.classify(black_box(agent)));
    });
    let peer = best(&|agent| {
        black_box(black_box(agent).bytes().position(|byte| byte == b'\n'));
    });
    let bytes: usize = agents.iter().map(|agent| agent.len()).sum();
    println!(
        "{} agents of {} bytes on average: {classify:.0} ns each ({:.2} ns a byte); a look at each byte: {peer:.0} ns",
        agents.len(),
        bytes / agents.len().max(1),
        classify * agents.len() as f64 / bytes.max(1) as f64,
    );
    println!(
        "{} bots; automaton of {} bytes, made in {made:?}; {}",
        classifier.bots().len(),
        classifier.memory(),
        classifier.version(),
    );
}

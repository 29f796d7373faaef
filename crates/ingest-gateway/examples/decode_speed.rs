//! How fast bodies become records: `cargo run --release --example decode_speed -p ingest-gateway
//! [ACCESS_LOG [NAME]]`. Each kind of body is made from the same records and decoded in many short
//! rounds; the best one counts, as the others were disturbed. With the NAME of one that is run a
//! fixed number of times and nothing else: for `perf stat`, whose instructions no neighbour changes.

use std::{
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use ingest_gateway::decode::{
    BodyDecoder, BodyHead, Decoded, Encoding, Inflater, Limits, Media, Progress, decode,
};
use pipeline_core::record::{Rules, append_json, read};

/// Records of one body.
const RECORDS: usize = 1000;
const ROUNDS: usize = 400;
/// What a connection gives at once.
const WIRE_PIECE_BYTES: usize = 64 * 1024;
const ROUND: Duration = Duration::from_millis(4);
/// Runs of one that is named.
const RUNS: u32 = 3000;

fn main() -> anyhow::Result<()> {
    let rules = Rules {
        record_bytes_max: 256 * 1024,
        default_site: None,
        bound_site: None,
    };
    let log = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => made_up_log(),
    };
    let batch = decode(Media::Text, &log, &rules, Limits::default())?;
    let lines: Vec<&[u8]> = batch
        .records
        .iter()
        .map(|(_, line)| line)
        .take(RECORDS)
        .collect();
    for records in [100, RECORDS] {
        bodies(&lines[..records], &log, &rules)?;
    }
    Ok(())
}

fn bodies(lines: &[&[u8]], log: &[u8], rules: &Rules) -> anyhow::Result<()> {
    let mean = lines.iter().map(|line| line.len()).sum::<usize>() / lines.len();
    println!("{} records of {mean} bytes as JSON", lines.len());

    let ndjson = lines.join(&b'\n');
    let array = [b"[", lines.join(&b',').as_slice(), b"]"].concat();
    let csv: Vec<u8> = lines
        .iter()
        .flat_map(|line| {
            let fields = read(line).expect("a record");
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let time = pipeline_core::record::timestamp::format_utc(fields.timestamp_ms);
            format!(
                "{time},{},{}\n",
                quoted(&fields.path),
                quoted(&fields.user_agent)
            )
            .into_bytes()
        })
        .collect();
    let text: Vec<u8> = log
        .split_inclusive(|byte| *byte == b'\n')
        .take(lines.len())
        .flatten()
        .copied()
        .collect();
    for (media, body) in [
        (Media::Ndjson, &ndjson),
        (Media::Json, &array),
        (Media::Csv, &csv),
        (Media::Text, &text),
    ] {
        measure(media.name(), body.len(), || {
            let batch = decode(media, body, rules, Limits::default()).expect("readable");
            black_box(batch).records.len()
        });
    }
    let broken = b"1\n".repeat(lines.len());
    measure("broken lines", broken.len(), || {
        let batch = decode(Media::Ndjson, &broken, rules, Limits::default()).expect("readable");
        usize::try_from(black_box(batch).rejected).expect("few")
    });
    let mut out = Vec::new();
    measure("append_json", ndjson.len(), || {
        out.clear();
        for line in lines {
            append_json(line, rules, &mut out).expect("a record");
        }
        lines.len()
    });
    measure("read", ndjson.len(), || {
        for line in lines {
            black_box(read(line).expect("a record"));
        }
        lines.len()
    });

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&ndjson)?;
    let gzip = gzip.finish()?;
    let zstd = zstd::encode_all(ndjson.as_slice(), 1)?;
    for (encoding, wire) in [(Encoding::Gzip, &gzip), (Encoding::Zstd, &zstd)] {
        measure(encoding.name(), ndjson.len(), || {
            let mut inflater = Inflater::new(encoding);
            let mut out = vec![0; ndjson.len() + 1];
            let moved = inflater.run(wire, &mut out).expect("whole");
            assert_eq!((moved.taken, moved.made), (wire.len(), ndjson.len()));
            black_box(out);
            lines.len()
        });
    }
    for (media, encoding, wire) in [
        (Media::Ndjson, Encoding::Identity, &ndjson),
        (Media::Json, Encoding::Identity, &array),
        (Media::Csv, Encoding::Identity, &csv),
        (Media::Text, Encoding::Identity, &text),
        (Media::Ndjson, Encoding::Gzip, &gzip),
        (Media::Ndjson, Encoding::Zstd, &zstd),
    ] {
        let name = format!("{}, {}", media.name(), encoding.name());
        measure(&name, ndjson.len(), || {
            let head = BodyHead {
                media,
                encoding,
                rules: rules.clone(),
                limits: Limits::default(),
                decoded_bytes_max: 1 << 30,
                wire_len: Some(wire.len() as u64),
                key: None,
            };
            black_box(from_the_wire(head, wire)).batch.records.len()
        });
    }
    Ok(())
}

/// As it comes in: in pieces, from one step to the next.
fn from_the_wire(head: BodyHead, wire: &[u8]) -> Decoded {
    let mut body = BodyDecoder::new(head);
    for mut piece in wire.chunks(WIRE_PIECE_BYTES) {
        while body.push(&mut piece).expect("readable") == Progress::More {}
    }
    loop {
        if let Some(decoded) = body.finish().expect("readable") {
            return decoded;
        }
    }
}

fn measure(name: &str, bytes: usize, mut once: impl FnMut() -> usize) {
    let (mut best, mut records) = (f64::MAX, 0);
    if let Some(only) = std::env::args().nth(2) {
        if only == name {
            let records: usize = (0..RUNS).map(|_| once()).sum();
            println!("{name}: {records} records");
        }
        return;
    }
    for _ in 0..ROUNDS {
        let (start, mut runs) = (Instant::now(), 0_u32);
        while start.elapsed() < ROUND {
            records = once();
            runs += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(runs));
    }
    println!(
        "{name:28} {:10.0} records/s {:8.0} MB/s",
        records as f64 / best,
        bytes as f64 / best / 1e6
    );
}

fn made_up_log() -> Vec<u8> {
    (0..RECORDS)
        .flat_map(|number| {
            format!(
                "10.0.0.{} - - [17/May/2015:10:{:02}:03 +0000] \"GET /item/{number}?page=2 HTTP/1.1\" 200 {} \"https://a.example/\" \"Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0\"\n",
                number % 256,
                number % 60,
                number * 37,
            )
            .into_bytes()
        })
        .collect()
}

use bytes::{BufMut, BytesMut};
use kafka_protocol::{
    messages::{
        ApiVersionsResponse, MetadataRequest, ProduceRequest, api_versions_response::ApiVersion,
    },
    protocol::Encodable,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const PRODUCE: i16 = ProduceRequest::KEY;

#[test]
fn addresses_are_split_at_the_port() {
    assert_eq!(
        split_address("kafka-1.local:9092"),
        Ok(("kafka-1.local", 9092))
    );
    assert_eq!(split_address("[::1]:9092"), Ok(("::1", 9092)));
    assert!(split_address("kafka").is_err());
    assert!(split_address("kafka:port").is_err());
}

fn limits() -> Limits {
    Limits {
        client_id: "test".to_owned(),
        connect_timeout: Duration::from_secs(10),
        files_age_max: Duration::MAX,
        response_bytes_max: 1 << 20,
        security: Arc::default(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The other end, by script.
struct Script {
    listener: TcpListener,
    address: Arc<str>,
}

/// One request as it came: key, version, correlation id, whole length.
type Heard = (i16, i16, i32, usize);

impl Script {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().into();
        Self { listener, address }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// A connection that knows produce and metadata, and its other end.
    async fn connected(&self) -> (Arc<Connection>, TcpStream) {
        let limits = limits();
        let opening = Connection::open(&self.address, &limits);
        let answering = async {
            let mut stream = self.accept().await;
            let (_, _, id, _) = hear(&mut stream).await;
            say_versions(&mut stream, id, 3, 0).await;
            stream
        };
        let (connection, stream) = tokio::join!(opening, answering);
        (Arc::new(connection.unwrap()), stream)
    }
}

async fn hear(stream: &mut TcpStream) -> Heard {
    let len = stream.read_i32().await.unwrap() as usize;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.unwrap();
    let int = |at: usize| i16::from_be_bytes([body[at], body[at + 1]]);
    let id = i32::from_be_bytes([body[4], body[5], body[6], body[7]]);
    (int(0), int(2), id, len)
}

async fn say_versions(stream: &mut TcpStream, id: i32, version: i16, code: i16) {
    let api = |key| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(4)
            .with_max_version(9)
    };
    let answer = ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(vec![api(PRODUCE), api(MetadataRequest::KEY)]);
    let mut body = BytesMut::new();
    body.put_i32(id);
    answer.encode(&mut body, version).unwrap();
    say(stream, &body).await;
}

async fn say(stream: &mut TcpStream, body: &[u8]) {
    stream.write_i32(body.len() as i32).await.unwrap();
    stream.write_all(body).await.unwrap();
}

fn produce(bytes: usize) -> ProduceRequest {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default().with_records(Some(vec![0; bytes].into()));
    let topic = TopicProduceData::default().with_partition_data(vec![data]);
    ProduceRequest::default().with_topic_data(vec![topic])
}

#[tokio::test]
async fn a_broker_that_knows_only_the_first_version_of_the_first_call_is_understood() {
    let script = Script::new().await;
    let limits = limits();
    let opening = Connection::open(&script.address, &limits);
    let answering = async {
        let mut stream = script.accept().await;
        let (_, version, id, _) = hear(&mut stream).await;
        assert_eq!(version, 3);
        // In version 0, whatever was asked.
        say_versions(&mut stream, id, 0, UNSUPPORTED_VERSION).await;
        let (_, version, id, _) = hear(&mut stream).await;
        assert_eq!(version, 0);
        say_versions(&mut stream, id, 0, 0).await;
        stream
    };
    let (connection, _stream) = tokio::join!(opening, answering);
    // Of what both know, the highest.
    assert_eq!(connection.unwrap().version::<ProduceRequest>().unwrap(), 9);
}

#[tokio::test]
async fn a_call_that_the_broker_does_not_know_is_unsupported() {
    use kafka_protocol::messages::HeartbeatRequest;
    let script = Script::new().await;
    let (connection, _stream) = script.connected().await;
    let error = connection.version::<HeartbeatRequest>().unwrap_err();
    assert_eq!(error.trouble, Trouble::Unsupported);
    assert!(error.message.contains("`heartbeat`"), "{}", error.message);
}

#[tokio::test]
async fn several_requests_are_on_the_way_and_answers_find_theirs_in_any_order() {
    let script = Script::new().await;
    let (connection, mut stream) = script.connected().await;
    let mut first = connection.start_raw(&produce(1), 9).unwrap();
    let mut second = connection.start_raw(&produce(2), 9).unwrap();
    assert_eq!(connection.in_flight(), 2);
    let (_, _, id_first, _) = hear(&mut stream).await;
    let (_, _, id_second, _) = hear(&mut stream).await;
    for id in [id_second, id_first] {
        say(&mut stream, &[&id.to_be_bytes()[..], &[id as u8]].concat()).await;
    }
    for (pending, id) in [(&mut first, id_first), (&mut second, id_second)] {
        let body = pending.wait(&connection, soon()).await.unwrap();
        assert_eq!(body[4], id as u8);
    }
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test]
async fn what_is_dropped_before_it_was_written_is_never_sent() {
    let script = Script::new().await;
    let (connection, mut stream) = script.connected().await;
    // More than the socket takes while nobody reads: the writer is busy with it.
    let _large = connection.start_raw(&produce(16 << 20), 9).unwrap();
    tokio::task::yield_now().await;
    let dropped = connection.start_raw(&produce(100), 9).unwrap();
    let kept = connection.start_raw(&produce(200), 9).unwrap();
    drop(dropped);
    assert_eq!(connection.in_flight(), 2);
    assert!(hear(&mut stream).await.3 > 16 << 20);
    let (_, _, id, len) = hear(&mut stream).await;
    assert_eq!(id, kept.id);
    assert!((200..300).contains(&len), "{len}");
}

#[tokio::test]
async fn time_that_ends_before_the_writing_means_that_nothing_was_sent() {
    let script = Script::new().await;
    let (connection, _stream) = script.connected().await;
    let mut large = connection.start_raw(&produce(16 << 20), 9).unwrap();
    tokio::task::yield_now().await;
    let mut behind = connection.start_raw(&produce(100), 9).unwrap();
    let brief = Instant::now() + Duration::from_millis(50);
    let error = behind.wait(&connection, brief).await.unwrap_err();
    assert!(!error.sent, "{}", error.message);
    // The connection is of no more use, and what was being written has an unknown outcome.
    assert!(connection.is_closed());
    let error = large.wait(&connection, soon()).await.unwrap_err();
    assert!(error.sent, "{}", error.message);
    let error = connection.start_raw(&produce(1), 9).err().unwrap();
    assert!(!error.sent);
    assert!(error.message.contains("no answer"), "{}", error.message);
}

#[tokio::test]
async fn an_answer_dropped_by_its_caller_does_not_disturb_the_next() {
    let script = Script::new().await;
    let (connection, mut stream) = script.connected().await;
    let dropped = connection.start_raw(&produce(1), 9).unwrap();
    let (_, _, id_dropped, _) = hear(&mut stream).await;
    drop(dropped);
    let mut next = connection.start_raw(&produce(2), 9).unwrap();
    let (_, _, id_next, _) = hear(&mut stream).await;
    say(&mut stream, &id_dropped.to_be_bytes()).await;
    say(&mut stream, &id_next.to_be_bytes()).await;
    next.wait(&connection, soon()).await.unwrap();
}

#[tokio::test]
async fn nonsense_from_the_other_end_closes_the_connection() {
    let nonsense: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0, 0, 0, 1, 9],
        // An answer to nothing.
        &[0, 0, 0, 4, 0, 0, 9, 9],
        // Longer than allowed.
        &[0, 0x20, 0, 0, 0, 0, 0, 1],
    ];
    for bytes in nonsense {
        let script = Script::new().await;
        let (connection, mut stream) = script.connected().await;
        let mut pending = connection.start_raw(&produce(1), 9).unwrap();
        hear(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
        let error = pending.wait(&connection, soon()).await.unwrap_err();
        assert!(error.sent, "{}", error.message);
        assert!(connection.is_closed());
    }
}

#[tokio::test]
async fn a_malformed_answer_is_an_error_and_the_end() {
    let script = Script::new().await;
    let (connection, mut stream) = script.connected().await;
    let mut pending = connection.start(&produce(1), 9).unwrap();
    let (_, _, id, _) = hear(&mut stream).await;
    say(&mut stream, &[&id.to_be_bytes()[..], &[0, 200, 7]].concat()).await;
    let error = pending.wait(soon()).await.unwrap_err();
    assert!(error.message.contains("malformed"), "{}", error.message);
    assert!(error.sent);
    assert!(connection.is_closed());
}

//! kafka-consumer-writer

//! How deep one is.

/// For each open container whether it is an object, one bit each.
#[derive(Clone, Default, Debug)]
pub(super) struct Stack {
    pub depth: usize,
    top: u64,
    below: Vec<u64>,
}

impl Stack {
    pub fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(self.top);
        }
        self.top = self.top << 1 | u64::from(object);
        self.depth += 1;
    }

    pub fn pop(&mut self) {
        self.depth -= 1;
        self.top >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.top = self.below.pop().expect("one word for each 64 levels");
        }
    }

    pub fn top_is_object(&self) -> bool {
        self.top & 1 == 1
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.below.capacity() * size_of::<u64>()
    }
}

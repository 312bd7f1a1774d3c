/* What zlib deflated, inflated again (RFC 1951). A browser's own DecompressionStream answers later than it is asked,
and the page needs its numbers before it draws anything. */
(function () {
  "use strict";
  /* Lengths and distances of a copy: the least value of each symbol, and the bits that follow it. */
  const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
  const DISTANCE_BITS = [...Array(30).keys()].map((n) => Math.max((n >> 1) - 1, 0));
  const least = (bits, first) => bits.reduce((found, each) => [...found, found.at(-1) + 2 ** each], [first]);
  const LENGTHS = [...least(LENGTH_BITS.slice(0, 28), 3).slice(0, 28), 258];
  const DISTANCES = least(DISTANCE_BITS, 1);
  const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]; // of the code of lengths
  const STORED = 0, FIXED = 1, END = 256;

  /* A code of symbols with these lengths in bits, 0 for none, as a table: by the next `width` bits of the input, the
  symbol times 16 and its length. */
  function codeOf(lengths) {
    const width = Math.max(...lengths), table = new Uint16Array(1 << width);
    let code = 0;
    for (let length = 1; length <= width; length++) {
      lengths.forEach((each, symbol) => {
        if (each !== length) return;
        let reversed = 0;
        for (let bit = 0; bit < length; bit++) reversed |= ((code >> bit) & 1) << (length - 1 - bit);
        for (let at = reversed; at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
        code += 1;
      });
      code <<= 1;
    }
    return { width, table };
  }

  const repeat = (count, value) => new Array(count).fill(value);
  const fixedLengths = [...repeat(144, 8), ...repeat(112, 9), ...repeat(24, 7), ...repeat(8, 8)];
  const FIXED_CODES = [codeOf(fixedLengths), codeOf(repeat(30, 5))];

  /* Bits of the input, the lowest of each byte first. */
  class Bits {
    constructor(input) { Object.assign(this, { input, at: 0, held: 0, count: 0 }); }
    fill(count) {
      while (this.count < count) {
        this.held |= this.input[this.at++] << this.count;
        this.count += 8;
      }
    }
    take(count) {
      this.fill(count);
      const value = this.held & ((1 << count) - 1);
      this.held >>>= count;
      this.count -= count;
      return value;
    }
    symbol({ width, table }) {
      this.fill(width);
      const found = table[this.held & ((1 << width) - 1)];
      this.held >>>= found & 15;
      this.count -= found & 15;
      return found >> 4;
    }
    /* Whole bytes, from the next one on. */
    bytes() {
      this.at -= this.count >> 3;
      this.held = this.count = 0;
      const size = this.input[this.at] | (this.input[this.at + 1] << 8), start = this.at + 4;
      this.at = start + size;
      return this.input.subarray(start, this.at);
    }
  }

  /* The two codes of a block that brings its own: of literals and lengths, and of distances. */
  function ownCodes(bits) {
    const literals = bits.take(5) + 257, distances = bits.take(5) + 1, ofLengths = bits.take(4) + 4;
    const lengths = repeat(19, 0), found = [];
    for (let i = 0; i < ofLengths; i++) lengths[LENGTH_ORDER[i]] = bits.take(3);
    const code = codeOf(lengths);
    while (found.length < literals + distances) {
      const symbol = bits.symbol(code);
      if (symbol < 16) found.push(symbol);
      else if (symbol === 16) found.push(...repeat(bits.take(2) + 3, found.at(-1)));
      else found.push(...repeat(symbol === 17 ? bits.take(3) + 3 : bits.take(7) + 11, 0));
    }
    return [codeOf(found.slice(0, literals)), codeOf(found.slice(literals))];
  }

  /* `size` bytes, of what was deflated without a header. */
  function inflate(input, size) {
    const out = new Uint8Array(size), bits = new Bits(input);
    let written = 0, isLast = false;
    while (!isLast) {
      isLast = bits.take(1) === 1;
      const kind = bits.take(2);
      if (kind === STORED) {
        const stored = bits.bytes();
        out.set(stored, written);
        written += stored.length;
        continue;
      }
      const [literals, distances] = kind === FIXED ? FIXED_CODES : ownCodes(bits);
      for (let symbol = bits.symbol(literals); symbol !== END; symbol = bits.symbol(literals)) {
        if (symbol < END) { out[written++] = symbol; continue; }
        const length = LENGTHS[symbol - 257] + bits.take(LENGTH_BITS[symbol - 257]);
        const from = bits.symbol(distances), distance = DISTANCES[from] + bits.take(DISTANCE_BITS[from]);
        for (const end = written + length; written < end; written++) out[written] = out[written - distance];
      }
    }
    return out;
  }

  LiveTarget.inflate = { inflate };
})();

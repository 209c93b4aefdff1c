;; Search of nonces for the SHA-256 puzzle, four at a time in the lanes of 128-bit vectors.
;;
;; One sub-puzzle asks for a nonce such that the first eight bytes of
;;     SHA-256(seed[32 bytes] || index[u32, big-endian] || nonce[u64, big-endian])
;; are below a target. The 44 bytes and their padding make exactly one block of 16 words:
;;     w0..w7 seed, w8 index, w9 and w10 nonce, w11 = 0x80000000, w12..w14 = 0, w15 = 352.
;; Only w10 differs between nonces that share their upper half, so rounds 0 to 9 are done once.
;;
;; Memory: 0 constants K (64 words), 256 seed (the caller writes its 32 bytes here),
;;         288 initial state (8 words), 384 state as vectors, 512 state after round 9,
;;         640 state after the last round, 768 the words w0..w63 as vectors.
(module
  (memory (export "memory") 1)

  (data (i32.const 0)
    "\98\2f\8a\42\91\44\37\71\cf\fb\c0\b5\a5\db\b5\e9\5b\c2\56\39\f1\11\f1\59\a4\82\3f\92\d5\5e\1c\ab"
    "\98\aa\07\d8\01\5b\83\12\be\85\31\24\c3\7d\0c\55\74\5d\be\72\fe\b1\de\80\a7\06\dc\9b\74\f1\9b\c1"
    "\c1\69\9b\e4\86\47\be\ef\c6\9d\c1\0f\cc\a1\0c\24\6f\2c\e9\2d\aa\84\74\4a\dc\a9\b0\5c\da\88\f9\76"
    "\52\51\3e\98\6d\c6\31\a8\c8\27\03\b0\c7\7f\59\bf\f3\0b\e0\c6\47\91\a7\d5\51\63\ca\06\67\29\29\14"
    "\85\0a\b7\27\38\21\1b\2e\fc\6d\2c\4d\13\0d\38\53\54\73\0a\65\bb\0a\6a\76\2e\c9\c2\81\85\2c\72\92"
    "\a1\e8\bf\a2\4b\66\1a\a8\70\8b\4b\c2\a3\51\6c\c7\19\e8\92\d1\24\06\99\d6\85\35\0e\f4\70\a0\6a\10"
    "\16\c1\a4\19\08\6c\37\1e\4c\77\48\27\b5\bc\b0\34\b3\0c\1c\39\4a\aa\d8\4e\4f\ca\9c\5b\f3\6f\2e\68"
    "\ee\82\8f\74\6f\63\a5\78\14\78\c8\84\08\02\c7\8c\fa\ff\be\90\eb\6c\50\a4\f7\a3\f9\be\f2\78\71\c6")
  (data (i32.const 288)
    "\67\e6\09\6a\85\ae\67\bb\72\f3\6e\3c\3a\f5\4f\a5\7f\52\0e\51\8c\68\05\9b\ab\d9\83\1f\19\cd\e0\5b")

  ;; Write one word to all lanes of w[t].
  (func $word (param $t i32) (param $value i32)
    (v128.store offset=768 (i32.shl (local.get $t) (i32.const 4)) (i32x4.splat (local.get $value))))

  ;; w[t] = w[t-16] + s0(w[t-15]) + w[t-7] + s1(w[t-2]) for t = 16 .. 63
  (func $schedule
    (local $at i32) (local $x v128) (local $y v128)
    (local.set $at (i32.const 768))
    (loop $next
      (local.set $x (v128.load offset=16 (local.get $at)))
      (local.set $y (v128.load offset=224 (local.get $at)))
      (v128.store offset=256 (local.get $at)
        (i32x4.add
          (i32x4.add
            (i32x4.add (v128.load (local.get $at)) (v128.load offset=144 (local.get $at)))
            ;; s0: rotations by 7 and 18, shift by 3
            (v128.xor
              (v128.xor
                (v128.xor (i32x4.shr_u (local.get $x) (i32.const 7)) (i32x4.shl (local.get $x) (i32.const 25)))
                (v128.xor (i32x4.shr_u (local.get $x) (i32.const 18)) (i32x4.shl (local.get $x) (i32.const 14))))
              (i32x4.shr_u (local.get $x) (i32.const 3))))
          ;; s1: rotations by 17 and 19, shift by 10
          (v128.xor
            (v128.xor
              (v128.xor (i32x4.shr_u (local.get $y) (i32.const 17)) (i32x4.shl (local.get $y) (i32.const 15)))
              (v128.xor (i32x4.shr_u (local.get $y) (i32.const 19)) (i32x4.shl (local.get $y) (i32.const 13))))
            (i32x4.shr_u (local.get $y) (i32.const 10)))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 1536)))))

  ;; Rounds $t .. $stop - 1, from the state at $in to the state at $out.
  (func $rounds (param $t i32) (param $stop i32) (param $in i32) (param $out i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $e v128) (local $f v128) (local $g v128) (local $h v128)
    (local $t1 v128)
    (local.set $a (v128.load (local.get $in)))
    (local.set $b (v128.load offset=16 (local.get $in)))
    (local.set $c (v128.load offset=32 (local.get $in)))
    (local.set $d (v128.load offset=48 (local.get $in)))
    (local.set $e (v128.load offset=64 (local.get $in)))
    (local.set $f (v128.load offset=80 (local.get $in)))
    (local.set $g (v128.load offset=96 (local.get $in)))
    (local.set $h (v128.load offset=112 (local.get $in)))
    (loop $next
      ;; t1 = h + S1(e) + ch(e, f, g) + K[t] + w[t]; S1: rotations by 6, 11 and 25
      (local.set $t1
        (i32x4.add
          (i32x4.add
            (i32x4.add (local.get $h) (v128.load32_splat (i32.shl (local.get $t) (i32.const 2))))
            (i32x4.add
              (v128.load offset=768 (i32.shl (local.get $t) (i32.const 4)))
              (v128.bitselect (local.get $f) (local.get $g) (local.get $e))))
          (v128.xor
            (v128.xor
              (v128.xor (i32x4.shr_u (local.get $e) (i32.const 6)) (i32x4.shl (local.get $e) (i32.const 26)))
              (v128.xor (i32x4.shr_u (local.get $e) (i32.const 11)) (i32x4.shl (local.get $e) (i32.const 21))))
            (v128.xor (i32x4.shr_u (local.get $e) (i32.const 25)) (i32x4.shl (local.get $e) (i32.const 7))))))
      (local.set $h (local.get $g))
      (local.set $g (local.get $f))
      (local.set $f (local.get $e))
      (local.set $e (i32x4.add (local.get $d) (local.get $t1)))
      ;; t2 = S0(a) + maj(a, b, c); S0: rotations by 2, 13 and 22; maj takes c where a and b differ
      (local.set $t1
        (i32x4.add
          (i32x4.add
            (local.get $t1)
            (v128.bitselect (local.get $c) (local.get $a) (v128.xor (local.get $a) (local.get $b))))
          (v128.xor
            (v128.xor
              (v128.xor (i32x4.shr_u (local.get $a) (i32.const 2)) (i32x4.shl (local.get $a) (i32.const 30)))
              (v128.xor (i32x4.shr_u (local.get $a) (i32.const 13)) (i32x4.shl (local.get $a) (i32.const 19))))
            (v128.xor (i32x4.shr_u (local.get $a) (i32.const 22)) (i32x4.shl (local.get $a) (i32.const 10))))))
      (local.set $d (local.get $c))
      (local.set $c (local.get $b))
      (local.set $b (local.get $a))
      (local.set $a (local.get $t1))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $t) (local.get $stop))))
    (v128.store (local.get $out) (local.get $a))
    (v128.store offset=16 (local.get $out) (local.get $b))
    (v128.store offset=32 (local.get $out) (local.get $c))
    (v128.store offset=48 (local.get $out) (local.get $d))
    (v128.store offset=64 (local.get $out) (local.get $e))
    (v128.store offset=80 (local.get $out) (local.get $f))
    (v128.store offset=96 (local.get $out) (local.get $g))
    (v128.store offset=112 (local.get $out) (local.get $h)))

  ;; Try $tries nonces from $nonce on and return the first that solves sub-puzzle $index, or -1.
  ;; $nonce and $tries are multiples of 4, and all these nonces have the same upper half.
  (func (export "search")
    (param $index i32) (param $nonce i64) (param $tries i32) (param $target i64) (result i64)
    (local $t i32) (local $end i64) (local $bound v128) (local $low v128)
    ;; The initial state, one word to all lanes.
    (loop $next
      (v128.store offset=384 (i32.shl (local.get $t) (i32.const 4))
        (v128.load32_splat offset=288 (i32.shl (local.get $t) (i32.const 2))))
      ;; The seed's bytes are big-endian words.
      (v128.store offset=768 (i32.shl (local.get $t) (i32.const 4))
        (i8x16.swizzle
          (v128.load32_splat offset=256 (i32.shl (local.get $t) (i32.const 2)))
          (v128.const i8x16 3 2 1 0 7 6 5 4 11 10 9 8 15 14 13 12)))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $t) (i32.const 8))))
    (call $word (i32.const 8) (local.get $index))
    (call $word (i32.const 9) (i32.wrap_i64 (i64.shr_u (local.get $nonce) (i64.const 32))))
    (call $word (i32.const 11) (i32.const 0x80000000))
    (call $word (i32.const 12) (i32.const 0))
    (call $word (i32.const 13) (i32.const 0))
    (call $word (i32.const 14) (i32.const 0))
    (call $word (i32.const 15) (i32.const 352))
    (call $rounds (i32.const 0) (i32.const 10) (i32.const 384) (i32.const 512))
    (local.set $bound (i32x4.splat (i32.wrap_i64 (i64.shr_u (local.get $target) (i64.const 32)))))
    (local.set $low
      (i32x4.add (i32x4.splat (i32.wrap_i64 (local.get $nonce))) (v128.const i32x4 0 1 2 3)))
    (local.set $end (i64.add (local.get $nonce) (i64.extend_i32_u (local.get $tries))))
    (loop $group
      (v128.store offset=768 (i32.const 160) (local.get $low))
      (call $schedule)
      (call $rounds (i32.const 10) (i32.const 64) (i32.const 512) (i32.const 640))
      ;; Hardly ever is the first word as small as the target's: only then look at each lane.
      (if (v128.any_true
            (i32x4.le_u
              (i32x4.add (v128.load (i32.const 640)) (v128.load (i32.const 384)))
              (local.get $bound)))
        (then
          (local.set $t (i32.const 0))
          (loop $lane
            (if (i64.lt_u
                  (i64.or
                    (i64.shl
                      (i64.extend_i32_u
                        (i32.add (i32.load offset=640 (local.get $t)) (i32.load offset=384 (local.get $t))))
                      (i64.const 32))
                    (i64.extend_i32_u
                      (i32.add (i32.load offset=656 (local.get $t)) (i32.load offset=400 (local.get $t)))))
                  (local.get $target))
              (then
                (return
                  (i64.add (local.get $nonce) (i64.extend_i32_u (i32.shr_u (local.get $t) (i32.const 2)))))))
            (local.set $t (i32.add (local.get $t) (i32.const 4)))
            (br_if $lane (i32.lt_u (local.get $t) (i32.const 16))))))
      (local.set $low (i32x4.add (local.get $low) (v128.const i32x4 4 4 4 4)))
      (local.set $nonce (i64.add (local.get $nonce) (i64.const 4)))
      (br_if $group (i64.lt_u (local.get $nonce) (local.get $end))))
    (i64.const -1)))

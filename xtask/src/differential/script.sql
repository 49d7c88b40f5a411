-- SPDX-License-Identifier: MIT OR Apache-2.0
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO t SELECT i, 'text ' || (i * 7 % 13), i / 3.0 FROM n;
CREATE INDEX tb ON t(b);
SELECT b, count(*), round(sum(c), 3) FROM t GROUP BY b ORDER BY 2 DESC, b;
UPDATE t SET c = c * 2 WHERE a % 3 = 0;
DELETE FROM t WHERE b LIKE '%7%';
SELECT a, b FROM t WHERE b > 'text 3' AND a BETWEEN 10 AND 60 ORDER BY b, a LIMIT 20;
SELECT x.a, y.a FROM t x JOIN t y ON x.a = y.a + 1 WHERE x.c > 100 LIMIT 5;
SELECT a, sum(c) OVER (ORDER BY a ROWS 2 PRECEDING) FROM t LIMIT 10;
CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET b = upper(new.b) WHERE a = new.a; END;
INSERT INTO t VALUES(1000, 'from a trigger', NULL);
SELECT * FROM t WHERE a = 1000;
SELECT json_extract('{"a": [1, 2, {"b": 3}]}', '$.a[2].b');
BEGIN; DELETE FROM t; ROLLBACK;
SELECT count(*), typeof(max(c)) FROM t;
PRAGMA integrity_check;
EXPLAIN QUERY PLAN SELECT * FROM t WHERE b = 'x';
SELECT hex(zeroblob(4)), printf('%08.3f', 3.14159), substr('hello', 2, 3);

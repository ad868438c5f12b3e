/**
 * Checks the house rules that no compiler knows (DESIGN: rooms and layers): who imports whom, what pure rooms must not
 * touch, and tidiness. The rules stand in layers.json beside this file. Nothing but Node is needed.
 *
 *     node scripts/check-layers.mjs [root]      prints file:line: what is wrong; exit code 1 if anything is
 */

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Splits TypeScript into tokens: { kind, text, line }, kind one of 'word', 'number', 'string', 'template', 'regex',
 * 'mark', 'comment'. Substitutions of a template come as tokens of their own. What is a regex and what a division is
 * told by the token before, as highlighters do.
 */
export function tokenize(source) {
  const tokens = [];
  /** Depth of braces at which each open template substitution ends. */
  const templates = [];
  let depth = 0;
  let at = 0;
  let line = 1;

  const push = (kind, end) => {
    const text = source.slice(at, end);
    tokens.push({ kind, text, line });
    for (let i = at; i < end; i++) if (source.charCodeAt(i) === 10) line++;
    at = end;
  };
  const previous = () => {
    for (let i = tokens.length - 1; i >= 0; i--) if (tokens[i].kind !== 'comment') return tokens[i];
    return null;
  };
  /** End of the template text that starts at `from`: after its closing mark, or after `${`. */
  const templateEnd = (from) => {
    for (let i = from; i < source.length; i++) {
      if (source[i] === '\\') i++;
      else if (source[i] === '`') return i + 1;
      else if (source[i] === '$' && source[i + 1] === '{') return i + 2;
    }
    return source.length;
  };
  const template = (from) => {
    const end = templateEnd(from);
    if (source.slice(end - 2, end) === '${') templates.push(depth++);
    push('template', end);
  };

  while (at < source.length) {
    const c = source[at];
    if (c === '\n') {
      line++;
      at++;
    } else if (/\s/.test(c)) {
      at++;
    } else if (c === '#' && at === 0 && source[1] === '!') {
      push('comment', lineEnd(source, at));
    } else if (c === '/' && source[at + 1] === '/') {
      push('comment', lineEnd(source, at));
    } else if (c === '/' && source[at + 1] === '*') {
      const end = source.indexOf('*/', at + 2);
      push('comment', end < 0 ? source.length : end + 2);
    } else if (c === "'" || c === '"') {
      let end = at + 1;
      while (end < source.length && source[end] !== c && source[end] !== '\n') end += source[end] === '\\' ? 2 : 1;
      push('string', Math.min(source.length, end + 1));
    } else if (c === '`') {
      template(at + 1);
    } else if (/[A-Za-z_$#\u0080-\uffff]/.test(c)) {
      let end = at + 1;
      while (end < source.length && /[\w$\u0080-\uffff]/.test(source[end])) end++;
      push('word', end);
    } else if (/\d/.test(c)) {
      let end = at + 1;
      while (end < source.length && /[\w.]/.test(source[end])) end++;
      push('number', end);
    } else if (c === '/' && regexMayStart(previous())) {
      push('regex', regexEnd(source, at));
    } else {
      if (c === '{') depth++;
      if (c === '}') {
        if (templates.length > 0 && templates[templates.length - 1] === depth - 1) {
          depth = templates.pop();
          template(at + 1);
          continue;
        }
        depth--;
      }
      push('mark', at + 1);
    }
  }
  return tokens;
}

function lineEnd(source, from) {
  const end = source.indexOf('\n', from);
  return end < 0 ? source.length : end;
}

const BEFORE_REGEX = new Set([
  'return',
  'typeof',
  'case',
  'in',
  'of',
  'do',
  'else',
  'void',
  'delete',
  'throw',
  'await',
  'yield',
]);

function regexMayStart(before) {
  if (before === null) return true;
  if (before.kind === 'word') return BEFORE_REGEX.has(before.text);
  if (before.kind === 'mark') return before.text !== ')' && before.text !== ']' && before.text !== '}';
  return before.kind === 'template' && before.text.endsWith('${');
}

function regexEnd(source, from) {
  let inClass = false;
  let end = from + 1;
  for (; end < source.length && source[end] !== '\n'; end++) {
    if (source[end] === '\\') end++;
    else if (source[end] === '[') inClass = true;
    else if (source[end] === ']') inClass = false;
    else if (source[end] === '/' && !inClass) break;
  }
  end++;
  while (end < source.length && /[a-z]/.test(source[end])) end++;
  return Math.min(end, source.length);
}

/** Every module named by import, export from, import type, import() and typeof import(): { specifier, line }. */
export function importsOf(tokens) {
  const code = tokens.filter((token) => token.kind !== 'comment');
  const found = [];
  for (let i = 0; i < code.length; i++) {
    const token = code[i];
    if (token.kind !== 'word' || (token.text !== 'import' && token.text !== 'export')) continue;
    if (i > 0 && code[i - 1].text === '.') continue;
    if (token.text === 'import') {
      const [next, after] = [code[i + 1], code[i + 2]];
      if (next === undefined || next.text === '.') continue;
      if (next.text === '(') {
        const plain = after?.kind === 'string' || (after?.kind === 'template' && after.text.endsWith('`'));
        found.push({ specifier: plain ? after.text.slice(1, -1) : null, line: token.line });
        continue;
      }
      if (next.kind === 'string') {
        found.push({ specifier: next.text.slice(1, -1), line: token.line });
        continue;
      }
    }
    // up to the `from` of this statement; a declaration that is exported has none before its first odd token
    for (let k = i + 1; k < code.length; k++) {
      const here = code[k];
      if (here.text === 'from' && code[k + 1]?.kind === 'string') {
        found.push({ specifier: code[k + 1].text.slice(1, -1), line: token.line });
        break;
      }
      const clause = here.kind === 'word' || here.kind === 'string' || ['{', '}', ',', '*'].includes(here.text);
      if (!clause || EXPORTED.has(here.text)) break;
    }
  }
  return found;
}

const EXPORTED = new Set([
  'const',
  'let',
  'var',
  'function',
  'class',
  'interface',
  'async',
  'abstract',
  'declare',
  'enum',
]);

/** Checks one file; `path` is relative to the root, with slashes. Returns { line, text, warning? }[]. */
export function checkFile(path, source, rules) {
  const found = [];
  const report = (line, text, warning = false) => found.push(warning ? { line, text, warning } : { line, text });
  const tokens = tokenize(source);
  const isTest = /\.test\.ts$/.test(path) || /(^|\/)test\//.test(path);
  const roomPath = roomOf(path, rules);
  if (isTest) {
    // tests may reach for anything
  } else if (roomPath === null) {
    report(1, 'stands in no room of layers.json');
  } else {
    checkImports(path, roomPath, tokens, rules, report);
    checkBans(rules.rooms[roomPath], tokens, rules, report);
  }
  checkTidy(source, tokens, isTest, rules, report);
  return found.sort((a, b) => a.line - b.line);
}

function roomOf(path, rules) {
  let best = null;
  for (const room of Object.keys(rules.rooms)) {
    if (path.startsWith(`${room}/`) && (best === null || room.length > best.length)) best = room;
  }
  return best;
}

function checkImports(path, roomPath, tokens, rules, report) {
  const room = rules.rooms[roomPath];
  const packageOf = (place) => place.split('/').slice(0, 2).join('/');
  for (const { specifier, line } of importsOf(tokens)) {
    if (specifier === null) {
      report(line, 'import() of something that is no plain text cannot be checked');
    } else if (specifier.startsWith('.')) {
      const target = posix.normalize(posix.join(posix.dirname(path), specifier));
      const targetRoom = roomOf(target, rules);
      if (/\.test\.ts$/.test(target)) report(line, `imports a test: ${specifier}`);
      if (targetRoom === null || packageOf(target) !== packageOf(path)) {
        report(line, `leaves its package by a path: ${specifier}`);
      } else if (targetRoom !== roomPath && !room.imports.includes(posix.basename(targetRoom))) {
        report(line, `${name(roomPath)} must not import ${name(targetRoom)}: ${specifier}`);
      }
    } else if (specifier.startsWith('node:')) {
      const allowed = room.node === true || (rules.nodeExceptions[path] ?? []).includes(specifier);
      if (!allowed) report(line, `${name(roomPath)} must not import ${specifier}`);
    } else {
      const allowed = (room.packages ?? []).some((own) => specifier === own || specifier.startsWith(`${own}/`));
      if (!allowed) report(line, `${name(roomPath)} must not import the package ${specifier}`);
    }
  }
}

function name(roomPath) {
  return posix.basename(roomPath) === 'src' ? roomPath : posix.basename(roomPath);
}

function checkBans(room, tokens, rules, report) {
  const bans = new Set([...(room.pure === true ? rules.pureBans : []), ...(room.bans ?? [])]);
  const code = tokens.filter((token) => token.kind !== 'comment');
  for (let i = 0; i < code.length; i++) {
    const { kind, text, line } = code[i];
    if (kind !== 'word') continue;
    const before = code[i - 1]?.text;
    const after = code[i + 1]?.text;
    if (text === 'Math' && after === '.' && bans.has(`Math.${code[i + 2]?.text}`)) {
      report(line, `Math.${code[i + 2].text} is banned here`);
    }
    if (!bans.has(text) || before === '.') continue;
    // a member of that name, declared or written as a key
    const memberOf = before === '{' || before === ',' || before === ';' || before === '}' || before === '(';
    if (memberOf && (after === ':' || after === '?')) continue;
    report(line, `${text} is banned here`);
  }
}

const LEFTOVER = /\b(?:TODO|FIXME|XXX|HACK)\b/;
const MACHINE_PATH = /(?:^|[\s'"`(=])\/(?:home|root|Users|work)\/[\w.-]+|\b[A-Z]:\\Users\\/;
/** A comment line that reads as a statement: ends as one and begins as one. */
const DEAD_CODE =
  /^(?:(?:const|let|var|return|import|export|throw|await|if \(|for \(|while \(|this\.|\}|[\w$.#]+\([^)]*\);$|[\w$.#[\]]+ [-+*/]?= ).*[;{]|\}|\} else \{)$/;

function checkTidy(source, tokens, isTest, rules, report) {
  const lines = source.split('\n').length - (source.endsWith('\n') ? 1 : 0);
  if (lines > rules.maxLines) report(rules.maxLines, `has ${lines} lines, more than ${rules.maxLines}: make it two`);
  else if (lines > rules.warnLines) report(rules.warnLines, `has ${lines} lines and asks to be two`, true);

  const code = tokens.filter((token) => token.kind !== 'comment');
  for (const token of tokens) {
    if (token.kind === 'comment') {
      token.text.split('\n').forEach((text, i) => {
        if (LEFTOVER.test(text)) report(token.line + i, 'a leftover: finish it or file it');
        if (MACHINE_PATH.test(text)) report(token.line + i, 'a path of one machine');
      });
      if (token.text.startsWith('//') && DEAD_CODE.test(token.text.slice(2).trim())) {
        report(token.line, 'code that is commented out');
      }
    } else if ((token.kind === 'string' || token.kind === 'template') && MACHINE_PATH.test(token.text)) {
      report(token.line, 'a path of one machine');
    }
  }
  for (let i = 0; i < code.length; i++) {
    const { kind, text, line } = code[i];
    if (kind !== 'word') continue;
    const before = code[i - 1]?.text;
    const inType =
      [':', '<', ',', '|', '&', 'as', 'extends'].includes(before) || (before === '>' && code[i - 2]?.text === '=');
    if (text === 'any' && inType) {
      const after = code[i + 1]?.text;
      if (after !== ':' && after !== '(' && after !== '.') report(line, "the type 'any'");
    }
    if (text === 'debugger') report(line, 'debugger');
    if (!isTest || before !== '.' || !['only', 'skip', 'todo'].includes(text) || code[i + 1]?.text !== '(') continue;
    if (text === 'only') report(line, '.only leaves the other tests out');
    else if (!isContext(code, i) || code[i + 2]?.text === ')') {
      report(
        line,
        `.${text} without a reason that is printed: use context.skip('why') or skipIf with the reason in the name`,
      );
    }
  }
}

/** `context.skip('why')` inside a test prints its reason; `it.skip(...)` does not. */
function isContext(code, i) {
  return !['it', 'test', 'describe', 'suite', 'bench'].includes(code[i - 2]?.text);
}

/** All TypeScript of packages/ and test/, but what is built or fetched. */
export function sourceFiles(root) {
  const files = [];
  const walk = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.name === 'node_modules' || entry.name === 'dist' || entry.name.startsWith('.')) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts')) files.push(path);
    }
  };
  walk(join(root, 'packages'));
  return files.map((path) => relative(root, path).split(sep).join('/')).sort();
}

function main() {
  const here = dirname(fileURLToPath(import.meta.url));
  const root = resolve(process.argv[2] ?? join(here, '..'));
  const rules = JSON.parse(readFileSync(join(here, 'layers.json'), 'utf8'));
  let errors = 0;
  const files = sourceFiles(root);
  for (const path of files) {
    for (const { line, text, warning } of checkFile(path, readFileSync(join(root, path), 'utf8'), rules)) {
      console.log(`${path}:${line}: ${warning ? 'warning: ' : ''}${text}`);
      if (!warning) errors++;
    }
  }
  console.log(`${files.length} files, ${errors} against the rules`);
  process.exitCode = errors > 0 ? 1 : 0;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();

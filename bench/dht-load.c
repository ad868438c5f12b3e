/*
 * Load for bench/dht.mjs: a network of N nodes of the DHT on 127.16.0.0 and up, all behind one socket, which answer what
 * they are asked (with the closest 8 of them), and ask a server, a query at a time in each of W slots.
 *
 *     dht-load SERVER_PORT OWN_PORT N serve                     answers until standard input closes; for each line of
 *                                                           it, says how much
 *     dht-load SERVER_PORT OWN_PORT N queries SECONDS W         ping, find_node and get_peers in turn
 *     dht-load SERVER_PORT OWN_PORT N announces COUNT W         get_peers and announce_peer of a new info-hash, COUNT times; a
 *                                                           server that is full may give no token, and is not announced to
 *
 * Each query comes from another of 2^20 addresses, so that no limit per address is met. Prints one JSON object at the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BASE 0x7f100001u /* 127.16.0.1 */
#define ADDRESSES (1u << 20)
#define MAX_NODES 4096
#define MAX_SLOTS 4096
#define LOST_NS 200000000ull

enum kind { PING, FIND_NODE, GET_PEERS, ANNOUNCE };

struct slot {
  enum kind kind;
  uint32_t address;
  uint8_t hash[20];
  uint8_t token[32];
  int token_length;
  uint64_t sent_at;
  uint16_t turn;
};

static int fd;
static struct sockaddr_in server;
static uint32_t node_count, own_port;
static uint8_t ids[MAX_NODES][20];
static uint64_t prefixes[MAX_NODES];
static struct slot slots[MAX_SLOTS];
static int announcing;
static uint32_t next_address;
static uint64_t state = 88172645463325252ull;
static uint64_t asked, answered, lost, announced, refused, errors, served, reply_bytes;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

static void fill(uint8_t *out, uint64_t seed) {
  for (int i = 0; i < 3; i++) {
    uint64_t word = mix(seed * 3 + i);
    memcpy(out + i * 8, &word, i < 2 ? 8 : 4);
  }
}

static uint64_t prefix_of(const uint8_t *id) {
  uint64_t word;
  memcpy(&word, id, 8);
  return __builtin_bswap64(word);
}

/* Node i's address; each in a /24 of its own. The others of the 2^20 are those between them. */
static uint32_t node_address(uint32_t i) { return BASE + (i << 8); }

static void id_of(uint32_t address, uint8_t *out) { fill(out, address); }

static void send_from(uint32_t from, const struct sockaddr_in *to, const uint8_t *bytes, int length) {
  union {
    char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct cmsghdr align;
  } control;
  struct iovec part = {(void *)bytes, (size_t)length};
  struct msghdr message = {(void *)to, sizeof *to, &part, 1, control.room, sizeof control.room, 0};
  struct cmsghdr *head = CMSG_FIRSTHDR(&message);
  memset(&control, 0, sizeof control);
  head->cmsg_level = IPPROTO_IP;
  head->cmsg_type = IP_PKTINFO;
  head->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
  ((struct in_pktinfo *)CMSG_DATA(head))->ipi_spec_dst.s_addr = htonl(from);
  sendmsg(fd, &message, 0);
}

static int append(uint8_t *out, int at, const char *text) {
  memcpy(out + at, text, strlen(text));
  return at + (int)strlen(text);
}

static int append_bytes(uint8_t *out, int at, const uint8_t *bytes, int length) {
  memcpy(out + at, bytes, (size_t)length);
  return at + length;
}

static void ask(uint32_t n) {
  struct slot *slot = &slots[n];
  uint8_t out[512], id[20];
  int at;
  if (slot->kind != ANNOUNCE) {
    slot->address = BASE + next_address;
    next_address = (next_address + 257) % ADDRESSES;
    state = mix(state);
    fill(slot->hash, state);
  }
  id_of(slot->address, id);
  at = append(out, 0, "d1:ad2:id20:");
  at = append_bytes(out, at, id, 20);
  switch (slot->kind) {
    case PING:
      at = append(out, at, "e1:q4:ping");
      break;
    case FIND_NODE:
      at = append(out, at, "6:target20:");
      at = append_bytes(out, at, slot->hash, 20);
      at = append(out, at, "e1:q9:find_node");
      break;
    case GET_PEERS:
      at = append(out, at, "9:info_hash20:");
      at = append_bytes(out, at, slot->hash, 20);
      at = append(out, at, "e1:q9:get_peers");
      break;
    case ANNOUNCE:
      at = append(out, at, "9:info_hash20:");
      at = append_bytes(out, at, slot->hash, 20);
      at += sprintf((char *)out + at, "4:porti%ue5:token%d:", 1024 + (slot->address & 0x7fff), slot->token_length);
      at = append_bytes(out, at, slot->token, slot->token_length);
      at = append(out, at, "e1:q13:announce_peer");
      break;
  }
  slot->turn++;
  uint8_t t[4] = {(uint8_t)(n >> 8), (uint8_t)n, (uint8_t)(slot->turn >> 8), (uint8_t)slot->turn};
  at = append(out, at, "1:t4:");
  at = append_bytes(out, at, t, 4);
  at = append(out, at, "1:y1:qe");
  slot->sent_at = now_ns();
  asked++;
  send_from(slot->address, &server, out, at);
}

static void next_query(uint32_t n) {
  struct slot *slot = &slots[n];
  if (announcing) slot->kind = GET_PEERS;
  else slot->kind = (enum kind)((slot->kind + 1) % 3);
  ask(n);
}

static void on_reply(const uint8_t *bytes, int length, int is_error) {
  const uint8_t *t = memmem(bytes, (size_t)length, "1:t4:", 5);
  while (t != NULL) {
    /* the last is the message's own */
    const uint8_t *later = memmem(t + 5, (size_t)(bytes + length - t - 5), "1:t4:", 5);
    if (later == NULL) break;
    t = later;
  }
  if (t == NULL || t + 9 > bytes + length) return;
  uint32_t n = (uint32_t)(t[5] << 8 | t[6]);
  uint16_t turn = (uint16_t)(t[7] << 8 | t[8]);
  if (n >= MAX_SLOTS || slots[n].sent_at == 0 || slots[n].turn != turn) return;
  struct slot *slot = &slots[n];
  answered++;
  reply_bytes += (uint64_t)length;
  if (is_error) errors++;
  else if (announcing && slot->kind == GET_PEERS) {
    const uint8_t *token = memmem(bytes, (size_t)length, "5:token", 7);
    int token_length = token == NULL ? 0 : atoi((const char *)token + 7);
    const uint8_t *colon = token == NULL ? NULL : memchr(token + 7, ':', 3);
    if (colon != NULL && token_length > 0 && token_length <= 32 && colon + 1 + token_length <= bytes + length) {
      memcpy(slot->token, colon + 1, (size_t)token_length);
      slot->token_length = token_length;
      slot->kind = ANNOUNCE;
      ask(n);
      return;
    }
    refused++;
  } else if (slot->kind == ANNOUNCE) announced++;
  next_query(n);
}

static int closest(uint8_t *out, const uint8_t *target) {
  uint64_t wanted = prefix_of(target), best[8];
  uint32_t which[8];
  int count = 0;
  for (uint32_t i = 0; i < node_count; i++) {
    uint64_t distance = prefixes[i] ^ wanted;
    if (count == 8 && distance >= best[7]) continue;
    int at = count < 8 ? count++ : 7;
    for (; at > 0 && best[at - 1] > distance; at--) {
      best[at] = best[at - 1];
      which[at] = which[at - 1];
    }
    best[at] = distance;
    which[at] = i;
  }
  for (int i = 0; i < count; i++) {
    uint32_t address = htonl(node_address(which[i]));
    uint16_t port = htons((uint16_t)own_port);
    memcpy(out + i * 26, ids[which[i]], 20);
    memcpy(out + i * 26 + 20, &address, 4);
    memcpy(out + i * 26 + 24, &port, 2);
  }
  return count * 26;
}

static void on_query(const uint8_t *bytes, int length, uint32_t own, const struct sockaddr_in *from) {
  uint8_t out[1024], id[20], nodes[8 * 26];
  const uint8_t *target = memmem(bytes, (size_t)length, "6:target20:", 11);
  if (target != NULL) target += 11;
  else if ((target = memmem(bytes, (size_t)length, "9:info_hash20:", 14)) != NULL) target += 14;
  const uint8_t *q = memmem(bytes, (size_t)length, "e1:q", 4);
  if (q == NULL) return;
  const uint8_t *t = memmem(q, (size_t)(bytes + length - q), "1:t", 3);
  if (t == NULL || (target != NULL && target + 20 > bytes + length)) return;
  int t_length = atoi((const char *)t + 3), head = t_length > 9 ? 6 : 5;
  if (t_length < 1 || t_length > 20 || t + head + t_length > bytes + length) return;
  id_of(own, id);
  int at = append(out, 0, "d1:rd2:id20:");
  at = append_bytes(out, at, id, 20);
  if (target != NULL) {
    int size = closest(nodes, target);
    at += sprintf((char *)out + at, "5:nodes%d:", size);
    at = append_bytes(out, at, nodes, size);
    at = append(out, at, "5:token4:abcd");
  }
  at = append(out, at, "e");
  at = append_bytes(out, at, t, head + t_length);
  at = append(out, at, "1:y1:re");
  served++;
  send_from(own, from, out, at);
}

/* Everything that waits, at most for `wait_ms`. */
static void receive(int wait_ms) {
  static uint8_t bytes[2048];
  struct pollfd ready = {fd, POLLIN, 0};
  if (wait_ms > 0) poll(&ready, 1, wait_ms);
  for (;;) {
    union {
      char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
      struct cmsghdr align;
    } control;
    struct sockaddr_in from;
    struct iovec part = {bytes, sizeof bytes - 1};
    struct msghdr message = {&from, sizeof from, &part, 1, control.room, sizeof control.room, 0};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    if (length < 0) return;
    uint32_t own = 0;
    bytes[length] = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head != NULL; head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_type == IP_PKTINFO) own = ntohl(((struct in_pktinfo *)CMSG_DATA(head))->ipi_addr.s_addr);
    }
    if (length > 8 && memcmp(bytes + length - 2, "re", 2) == 0) on_reply(bytes, (int)length, 0);
    else if (memmem(bytes, (size_t)length, "1:y1:q", 6) != NULL) on_query(bytes, (int)length, own, &from);
    else if (memmem(bytes, (size_t)length, "1:y1:r", 6) != NULL) on_reply(bytes, (int)length, 0);
    else if (memmem(bytes, (size_t)length, "1:y1:e", 6) != NULL) on_reply(bytes, (int)length, 1);
  }
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  own_port = (uint32_t)atoi(argv[2]);
  node_count = (uint32_t)atoi(argv[3]);
  if (node_count > MAX_NODES) return 2;
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  int on = 1, room = 8 << 20;
  setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)own_port)};
  if (bind(fd, (struct sockaddr *)&own, sizeof own) != 0) return perror("bind"), 1;
  for (uint32_t i = 0; i < node_count; i++) {
    id_of(node_address(i), ids[i]);
    prefixes[i] = prefix_of(ids[i]);
  }
  state = now_ns();
  if (strcmp(argv[4], "serve") == 0) {
    printf("{\"ready\":true}\n");
    fflush(stdout);
    for (;;) {
      struct pollfd waits[2] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
      poll(waits, 2, 1000);
      char line[64];
      if (waits[0].revents != 0) {
        if (fgets(line, sizeof line, stdin) == NULL) return 0;
        printf("{\"served\":%llu}\n", (unsigned long long)served);
        fflush(stdout);
      }
      receive(0);
    }
  }
  if (argc < 7) return 2;
  announcing = strcmp(argv[4], "announces") == 0;
  uint64_t limit = strtoull(argv[5], NULL, 10);
  uint32_t window = (uint32_t)atoi(argv[6]);
  if (window > MAX_SLOTS) return 2;
  uint64_t started = now_ns(), swept = started, end = announcing ? UINT64_MAX : started + limit * 1000000000ull;
  for (uint32_t n = 0; n < window; n++) {
    slots[n].kind = announcing ? GET_PEERS : (enum kind)(n % 3);
    ask(n);
  }
  uint64_t now = started, progress_at = started, progress = 0;
  while (now < end && !(announcing && announced + refused + errors >= limit)) {
    receive(1);
    now = now_ns();
    if (answered != progress) progress = answered, progress_at = now;
    if (now - progress_at > 10000000000ull) break;
    if (now - swept < LOST_NS / 4) continue;
    swept = now;
    for (uint32_t n = 0; n < window; n++) {
      if (now - slots[n].sent_at < LOST_NS) continue;
      lost++;
      next_query(n);
    }
  }
  printf("{\"seconds\":%.3f,\"asked\":%llu,\"answered\":%llu,\"lost\":%llu,\"errors\":%llu,\"announced\":%llu,"
         "\"refused\":%llu,\"replyBytes\":%llu,\"served\":%llu}\n",
         (double)(now_ns() - started) / 1e9, (unsigned long long)asked, (unsigned long long)answered,
         (unsigned long long)lost, (unsigned long long)errors, (unsigned long long)announced, (unsigned long long)refused,
         (unsigned long long)reply_bytes, (unsigned long long)served);
  return 0;
}

#!/usr/bin/env ruby
# Ruby's net/http through Moorgate.
#
#   ruby examples/ruby/client.rb http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
#
# The target should answer with the address that it sees.
# frozen_string_literal: true

require "json"
require "net/http"
require "securerandom"

BLOCKED = %w[401 403 429].freeze

abort "usage: #{$PROGRAM_NAME} http://USER:SECRET@HOST:PORT TARGET_URL" unless ARGV.length == 2
PROXY = URI(ARGV[0])
TARGET = URI(ARGV[1])

# One request under this proxy username, on a connection of its own: a tunnel
# to an https target keeps its exit for as long as it is open.
def ask(username, url, request)
  options = { use_ssl: url.scheme == "https", open_timeout: 30, read_timeout: 30 }
  Net::HTTP.start(url.host, url.port, PROXY.host, PROXY.port, username, PROXY.password, options) do |http|
    response = http.request(request)
    abort "the gateway refused: #{response.body}" if response["Moorgate-Error"]
    response
  end
end

def get(username)
  response = ask(username, TARGET, Net::HTTP::Get.new(TARGET))
  abort "#{TARGET} answered #{response.code}" unless response.code == "200"
  response.body.strip
end

# Says that the session's exit is no good for the target: the session moves.
def report(session, reason)
  url = URI("http://moorgate.internal/session/report")
  request = Net::HTTP::Post.new(url, "Content-Type" => "application/json")
  request.body = JSON.generate(target: TARGET.to_s, reason: reason)
  ask(session, url, request)
end

# A page of a session; blocked, its exit is reported, and it is asked for again
# by another.
def fetch(session)
  3.times do
    response = ask(session, TARGET, Net::HTTP::Get.new(TARGET))
    return response.body.strip unless BLOCKED.include?(response.code)

    report(session, "status #{response.code}")
  end
  abort "#{TARGET} blocks every exit that was tried"
end

# A session is made by its name: two requests with one name have one exit.
session = "#{PROXY.user}-session-#{SecureRandom.uuid}-ttl-10m"
puts "sticky: #{get(session)} #{get(session)}"

# Where the site has had enough of that exit by now, the session moves.
puts "renewed: #{fetch(session)}"

# Without a session, each request leaves by the next exit of the pool.
puts "rotating: #{get(PROXY.user)} #{get(PROXY.user)}"
